-- Settle permits whose calls are answered, then take one permit from all budgets of a call, or from none.
--
-- A permit is a member of its budgets' sorted sets, scored with the moment it is free again (ms). Taken, it is held for
-- the longest time its call can last plus the window; settled, it is free one window after the answer, less a credit.
--
-- KEYS 1 meta     hash  last epoch hold_until pause_until pause_why egress_until ramp_from yield yield_at herd tat
--                       vt1..3 (virtual time of a lane) at1..3 (last grant of a lane)
--      2 line     zset  waiter -> lane * 1e15 + fair tag: the order in which waiters for the global budget are served
--      3 gone     zset  waiter -> moment after which it is forgotten
--      4 fair     zset  lane:user -> lane * 1e15 + finish tag
--      5 learned  hash  route -> "bucket|capacity|window ms|candidate capacity|times seen"; bucket "-": no limit known
--      6 invalid  hash  minute -> answers 401, 403 and 429 (not shared) in it
--      7.. budgets, zset  permit -> free at; also "z": the budget is paused, "f:n": somebody else's use of our token
-- ARGV 1 JSON: epoch, hold (ms after lost state), now (ms, for tests; else TIME), settles [], take {}; see redis_budgets.py
-- Reply: JSON with one of go (share left in each budget), wait (ms, with kind, why), route (what is learned, ask again);
--        foreign: permits that somebody else seems to use. Times are integers in ms. All of it is atomic.

local META, LINE, GONE, FAIR, LEARNED, INVALID, GLOBAL = 1, 2, 3, 4, 5, 6, 7
local LANE, MINUTE, RAMP, YIELD_BACK = 1e15, 60000, 5000, 30000
local ask = cjson.decode(ARGV[1])

local clock = redis.call('TIME')
local now = ask.now or (clock[1] * 1000 + math.floor(clock[2] / 1000))
local meta = {}
do
  local flat = redis.call('HGETALL', KEYS[META])
  for i = 1, #flat, 2 do meta[flat[i]] = flat[i + 1] end
end
local function number(name) return tonumber(meta[name] or 0) end
local changed = {}
local function set(name, value)
  meta[name] = value
  changed[#changed + 1] = name
  changed[#changed + 1] = value
end

now = math.max(now, number('last'))
if meta.last == nil or meta.epoch ~= ask.epoch then
  -- What was in flight is not known: unknown is not free.
  set('epoch', ask.epoch)
  set('hold_until', now + ask.hold)
end
set('last', now)

local function live_for(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, math.ceil(ms)) end
end

local function limits_of(budget)
  if not budget.route then return budget.l, budget.w end
  local text = redis.call('HGET', KEYS[LEARNED], budget.route)
  if not text then return 1, 0, '?' end
  local bucket, l, w = string.match(text, '^([^|]*)|(%d+)|(%d+)')
  return tonumber(l), tonumber(w), bucket
end

local function learn(s)
  local text = redis.call('HGET', KEYS[LEARNED], s.route)
  local bucket, l, w, candidate, times = s.bucket, s.l, s.w, s.l, 0
  if text then
    local b0, l0, w0, c0, t0 = string.match(text, '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)')
    if b0 == s.bucket then
      l0, w0, c0, t0 = tonumber(l0), tonumber(w0), tonumber(c0), tonumber(t0)
      w = math.max(w, w0)
      if s.l > l0 then
        -- A greater limit is believed after it was seen three times in a row, a smaller one at once.
        times = (c0 == s.l) and t0 + 1 or 1
        if times < 3 then l = l0 else times = 0 end
      end
    end
  end
  redis.call('HSET', KEYS[LEARNED], s.route, string.format('%s|%d|%d|%d|%d', bucket, l, w, candidate, times))
  redis.call('PEXPIRE', KEYS[LEARNED], 86400000)
end

local function pause(s)
  if s.scope == 'global' then
    set('pause_until', math.max(number('pause_until'), now + s.retry))
    set('pause_why', 'global')
    set('ramp_from', number('pause_until'))
    set('yield', math.min(s.half, number('yield') + s.step))
    set('yield_at', number('pause_until'))
  elseif s.scope == 'egress' then
    set('egress_until', math.max(number('egress_until'), now + s.retry))
  elseif s.place then
    redis.call('ZADD', KEYS[s.place], 'GT', now + s.retry, 'z')
    live_for(KEYS[s.place], s.retry + 1000)
  end
end

local function notice_others(s)
  local key, missing = KEYS[s.place], 0
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  missing = (s.l - s.remaining) - redis.call('ZCARD', key)
  for i = 1, missing do
    redis.call('ZADD', key, now + s.reset, 'f:' .. i)
  end
  if missing > 0 then live_for(key, s.reset + 1000) end
  return math.max(0, missing)
end

local function hold_until(key, id, free_at)
  if free_at <= now then
    redis.call('ZREM', key, id)
  else
    redis.call('ZADD', key, free_at, id)
    live_for(key, free_at - now + 1000)
  end
end

local foreign = 0
for _, s in ipairs(ask.settles) do
  if s.learn then learn(s.learn) end
  for _, budget in ipairs(s.budgets) do
    local key = KEYS[budget.k]
    if s.back then
      redis.call('ZREM', key, s.id)
    elseif s.answered and redis.call('ZSCORE', key, s.id) then
      local w = budget.w
      if budget.route then _, w = limits_of(budget) end
      hold_until(key, s.id, now - s.age + w - budget.x)
    end
  end
  if s.carry then
    -- The first call of a route was made under another key than the one it turned out to belong to.
    local _, w = limits_of(s.carry)
    hold_until(KEYS[s.carry.place], s.id, now - s.age + w)
  end
  if s.others then foreign = foreign + notice_others(s.others) end
  if s.pause then pause(s.pause) end
  if s.invalid then
    redis.call('HINCRBY', KEYS[INVALID], math.floor(now / MINUTE), 1)
    redis.call('PEXPIRE', KEYS[INVALID], 11 * MINUTE)
  end
end

local function finish(reply)
  redis.call('HSET', KEYS[META], unpack(changed))
  reply.foreign = foreign
  return cjson.encode(reply)
end

local take = ask.take
if not take then return finish({}) end

local function leave(ms, kind, why)
  redis.call('ZREM', KEYS[LINE], take.waiter)
  redis.call('ZREM', KEYS[GONE], take.waiter)
  return finish({ wait = math.max(1, math.ceil(ms)), kind = kind, why = why })
end

local spacing = take.budgets[1].w / take.budgets[1].l
local function together(kind, why, until_)
  -- Everybody waits for the same moment, so each is told one a little later than the one before.
  local herd = (meta.herd_until == tostring(until_)) and number('herd') + 1 or 0
  set('herd_until', tostring(until_))
  set('herd', herd)
  return leave(until_ - now + herd * spacing, kind, why)
end

local function invalid_answers()
  if redis.call('EXISTS', KEYS[INVALID]) == 0 then return 0 end
  local flat, sum, oldest = redis.call('HGETALL', KEYS[INVALID]), 0, math.floor(now / MINUTE) - 10
  for i = 1, #flat, 2 do
    if tonumber(flat[i]) > oldest then
      sum = sum + tonumber(flat[i + 1])
    else
      redis.call('HDEL', KEYS[INVALID], flat[i])
    end
  end
  return sum
end

if number('hold_until') > now then return together('global', 'hold', number('hold_until')) end
if number('egress_until') > now then return together('egress', 'blocked', number('egress_until')) end
if number('pause_until') > now then return together('global', 'pause', number('pause_until')) end
local invalid = invalid_answers()
if invalid >= take.stop_all or (invalid >= take.stop_bulk and take.lane > 1) then
  return together('invalid_requests', 'breaker', now + MINUTE - now % MINUTE)
end

-- The budgets that are not everybody's: who is refused here never stands in the global line.
local used, capacity, window = {}, {}, {}
for i, budget in ipairs(take.budgets) do
  local l, w, bucket = limits_of(budget)
  if budget.route and bucket ~= budget.bucket then return finish({ route = bucket }) end
  local key = KEYS[budget.k]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  used[i], capacity[i], window[i] = redis.call('ZCARD', key), l, w
  if budget.route then
    local paused = redis.call('ZSCORE', key, 'z')
    if paused then return leave(tonumber(paused) - now, budget.kind, 'pause') end
  end
  if i > 1 and l > 0 and used[i] >= l then
    if bucket == '?' then return leave(take.probe, budget.kind, 'probe') end
    local free_at = redis.call('ZRANGE', key, used[i] - l, used[i] - l, 'WITHSCORES')[2]
    return leave(tonumber(free_at) - now, budget.kind, 'used up')
  end
end

-- The global line: lanes in order, inside a lane users by turns.
for _, waiter in ipairs(redis.call('ZRANGEBYSCORE', KEYS[GONE], '-inf', now, 'LIMIT', 0, 20)) do
  redis.call('ZREM', KEYS[LINE], waiter)
  redis.call('ZREM', KEYS[GONE], waiter)
end
local base, vt = take.lane * LANE, number('vt' .. take.lane)
local member = take.lane .. ':' .. take.user
local tag = tonumber(redis.call('ZSCORE', KEYS[LINE], take.waiter) or nil)
local waiting = tag ~= nil
if not waiting or math.floor(tag / LANE) ~= take.lane then
  local finished = tonumber(redis.call('ZSCORE', KEYS[FAIR], member) or base)
  tag = base + math.max(vt, finished - base)
end
local rank = redis.call('ZCOUNT', KEYS[LINE], '-inf', '(' .. string.format('%.0f', tag))
if waiting then rank = math.min(rank, redis.call('ZRANK', KEYS[LINE], take.waiter)) end
local owed = take.guarantee[take.lane]
if owed > 0 and now - number('at' .. take.lane) >= owed then
  -- A lane that was served too long ago goes first, so that none starves.
  if redis.call('ZCOUNT', KEYS[LINE], base, '(' .. string.format('%.0f', tag)) == 0 then rank = 0 end
end

local l = capacity[1]
if number('ramp_from') > 0 and now < number('ramp_from') + RAMP then
  l = math.max(1, math.floor(l * (0.5 + 0.5 * (now - number('ramp_from')) / RAMP)))
end
if number('yield') > 0 then
  local back = math.floor(math.max(0, now - number('yield_at')) / YIELD_BACK)
  l = math.max(1, l - math.max(0, number('yield') - back))
  if back >= number('yield') then set('yield', 0) end
end
local free = l - used[1] - (take.lane > 1 and take.reserve or 0)
local wait = 0
if rank >= free then
  local place = math.min(rank - free, used[1] - 1)
  local free_at = place >= 0 and redis.call('ZRANGE', KEYS[GLOBAL], place, place, 'WITHSCORES')[2] or now + spacing
  wait = math.max(1, tonumber(free_at) - now + (rank - free - place) * spacing)
end
if take.lane > 1 then
  local early = number('tat') - take.burst * spacing - now
  if early > 0 then wait = math.max(wait, early + rank * spacing) end
end
if wait > 0 then
  wait = math.ceil(wait)
  redis.call('ZADD', KEYS[LINE], tag, take.waiter)
  redis.call('ZADD', KEYS[GONE], now + wait + take.grace, take.waiter)
  return finish({ wait = wait, kind = 'global', why = 'used up' })
end

redis.call('ZREM', KEYS[LINE], take.waiter)
redis.call('ZREM', KEYS[GONE], take.waiter)
set('vt' .. take.lane, tag - base)
set('at' .. take.lane, now)
redis.call('ZADD', KEYS[FAIR], tag + 1, member)
redis.call('ZREMRANGEBYSCORE', KEYS[FAIR], base, tag - 1)
redis.call('PEXPIRE', KEYS[FAIR], 60000)
if take.lane > 1 then set('tat', math.max(now, number('tat')) + spacing) end
local left = {}
for i, budget in ipairs(take.budgets) do
  local keep = window[i] + take.keep
  redis.call('ZADD', KEYS[budget.k], now + keep, take.id)
  live_for(KEYS[budget.k], keep + 1000)
  left[i] = capacity[i] > 0 and math.max(0, capacity[i] - used[i] - 1) / capacity[i] or 1
end
return finish({ go = left })
