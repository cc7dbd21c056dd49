-- Part 1 of 7 of the one script that every change of the budgets runs in: its interface, the fleet's clock, the state.
-- redis_store.py joins the parts in the order state, ledgers, routes, settle, fair_queue, acquire, exchange, after a
-- line `local params = {...}` with the numbers of limits.LimiterParameters. The whole script is atomic.
--
-- KEYS, all under one hash tag:
--   1  meta      hash  clock, run, hold, pause, pacing, lanes, round trips: FIELDS below
--   2  ledger    zset  permit id -> moment of release (global budget)
--   3-5 queues   zset  waiter -> position, a moment; one per lane: interactive, background, refresh. A named caller has
--                      queues of its own: these names, then ":<caller>"
--   6  deadlines zset  "<lane> <waiter>" -> moment after which the waiter's position is dropped
--   7  tags      zset  user id -> moment of the user's next turn in a queue (fairness inside a lane)
--   8  learned   hash  "<kind> <route>" -> "bucket capacity window per_guild"; with a suffix: evidence, see routes.lua;
--                      "... lost": moment before which the route, whose permits were lost, gets none
--   9  egress    hash  invalid answers by minute, and until when which lanes stop; "o<minute>": before a lift (stops.lua);
--                      of each caller: refused tokens by minute, and until when the calls with its tokens stop
--   10 active    zset  route budgets in use: label -> moment of the last release, for snapshots
--   11 repeats   zset  what was answered 429 -> end of its wait, see settle.lua; a fraction counts answers in a row
--   12 callers   zset  "<lane>:<caller>" -> virtual moment of the caller's next call in the lane, see fair_queue.lua
--   13 caller_deadlines  zset  "<lane>:<caller> <waiter>" -> as deadlines, for waiters of named callers
--   then for each settlement: user ledger, route ledger as charged, the bucket's ledger of all guilds, of its guild
--   then for each request: user ledger, user queue, route ledger, route queue, route ledger of its guild
-- ARGV: 1 input, JSON: `settlements` and `requests` (codec.py), the estimate of the fleet's clock (fleet_clock.py), and
--   in tests `now`, which replaces Redis' clock.
-- Reply: {moment of the fleet's clock, what Redis' clock shows, incarnation, epoch or 0 if Redis' clock was not trusted,
--   {reply to each settlement}, {reply to each request}}.
-- Units: milliseconds everywhere; moments are those of the fleet's clock, see `read_clock`.
--
-- Releases of the product run side by side on these keys. Names of keys and hash fields, and the meaning of their
-- values, must not change; input and reply belong to one process and may.
local meta, ledger, deadlines, tags = KEYS[1], KEYS[2], KEYS[6], KEYS[7]
local queues = {KEYS[3], KEYS[4], KEYS[5]}
local learned, egress, active, repeats = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local callers, caller_deadlines = KEYS[12], KEYS[13]
local input = cjson.decode(ARGV[1])
local call = redis.call

local FIELDS = {
  'last', 'offset',                     -- the fleet's clock, and its lead over Redis' own
  'born',                               -- incarnation: begins when the state is lost or another server answers
  'era',                                -- epoch: the part of the incarnation since Redis' clock was set
  'hold',                               -- warm-up hold: no permit before this moment, because state was lost
  'was', 'was_era', 'shift',            -- incarnation and epoch before the loss; what their clock shows more than this
  'pause', 'ramp', 'fewer', 'fewer_at', -- global pause; start of the ramp; permits left to foreign usage, since when
  'repeated',                           -- no entry of `repeats` matters after this moment
  'paused', 'stopped',                  -- no budget is paused, and no address stopped, after these moments
  'pace',                               -- moment of the next background or refresh call at an even pace
  'served', 'tag1', 'tag2', 'tag3',     -- virtual time of the lanes, and of each lane's next call
  'turn1', 'turn2', 'turn3',            -- virtual time of the callers in each lane
  'named',                              -- no named caller is in a queue after this moment
  'tie',                                -- counts positions, to order those of the same moment
  'rtt', 'rtt_new', 'rtt_old', 'rtt_n', 'rtt_at', -- usual round trip; shortest in this and the previous period
}
local DAY = 86400000
local JUMP = 100 -- an exchange with Redis hardly ever takes longer
local SLACK = 10000 -- keys outlive their last entry by this much, so that a step of the clock cannot drop them early

local state, stored = {}, {}
local values = call('HMGET', meta, 'run', unpack(FIELDS))
for i, name in ipairs(FIELDS) do
  stored[name] = tonumber(values[i + 1])
  state[name] = stored[name] or 0
end

-- Invalidates all earlier readings of the clock, and holds until no earlier call can count any more.
local function begin_epoch(wall, moment)
  state.era, state.offset, state.was = wall, moment - wall, 0
  state.hold = math.max(state.hold, moment + params.warmup_hold)
end

-- Notes by the requester's estimate what the clock of before the loss shows more than this one, at most.
local function note_shift(moment)
  state.was, state.was_era = input.incarnation, input.epoch
  state.shift = input.earliest + input.uncertainty - moment
end

-- Notes that a route's permits were lost, and must not be granted before its window is over: the hold lasts for the
-- longest window of the budgets. Until then the route is unknown. After it, its first call tells what Discord counts.
local function hold_route(route_key, window)
  local moment = state.hold + window - params.longest_window
  local known = tonumber(call('HGET', learned, route_key .. ' lost') or 0)
  if params.warmup_hold == 0 or window <= params.longest_window or moment <= math.max(known, state.last) then return end
  call('HSET', learned, route_key .. ' lost', moment)
  call('PEXPIRE', learned, 30 * DAY)
end

-- Another server may know the routes, and not their last permits.
local function forget_long_routes()
  local entries = call('HGETALL', learned)
  for i = 1, #entries, 2 do
    local window = tonumber(string.match(entries[i + 1], '^%S+ %d+ (%d+) %d$'))
    if window and window > params.longest_window then
      hold_route(entries[i], window)
      call('HDEL', learned, entries[i], entries[i] .. ' seen', entries[i] .. ' first')
    end
  end
end

-- The fleet's clock is Redis' clock, checked against the requester's estimate: when this exchange was sent, the moment
-- lay between `earliest` and `earliest + uncertainty` (fleet_clock.py).
-- * Redis shows much more: the exchange was delayed, or Redis' clock was set forward. The script cannot tell, so it
--   releases permits by the earliest moment and charges them from the latest. The requester can tell from the time of
--   the reply, and reports it with its next exchange (`ahead`).
-- * Redis shows much less: its clock was set back.
-- When the clock was set, the exact moment is lost: a new epoch begins with a warm-up hold. In the new epoch the fleet's
-- clock never shows more than it would have in the old one, so an estimate of an older epoch still bounds the moment
-- from above, though not from below.
-- A process without an estimate trusts Redis. So does one whose estimate is of an earlier incarnation, unless the hold is
-- on and time has passed since the last exchange: it may have passed, or Redis' clock was set. The estimate tells how much
-- has passed at least, by the clock of before the loss (`shift`). What is beyond, the clock does not show: a new epoch
-- begins. It needs no hold of its own, because nothing was granted since the hold began. So the hold lasts once, however
-- many processes return during it.
-- Returns the earliest and the latest moment, what Redis shows, and whether that was trusted.
local function read_clock(wall)
  local shown = wall + state.offset
  local has_estimate = input.earliest > 0 and input.incarnation == state.born
  local same_epoch = has_estimate and input.epoch == state.era
  local least = same_epoch and math.max(input.earliest, state.last) or state.last
  local most = has_estimate and input.earliest + input.uncertainty or shown
  local ahead = shown > most + JUMP
  local now, trusted = math.max(shown, least), true
  if input.ahead and (same_epoch or ahead) then
    now = least
    begin_epoch(wall, now)
  elseif shown < least - JUMP then
    begin_epoch(wall, now)
  elseif ahead then
    now, trusted = least, false
  elseif not has_estimate and input.earliest > 0 and state.last < state.hold then
    local knows_shift = input.incarnation == state.was and input.epoch == state.was_era
    local passed = knows_shift and input.earliest - state.shift or 0
    if shown > math.max(state.last, passed + (knows_shift and input.uncertainty or 0)) + JUMP then
      now = math.max(state.last, passed)
      state.era = wall
      note_shift(now)
    end
    state.offset = now - wall
  else
    state.offset = now - wall
  end
  state.last = now
  return now, math.max(now, most), shown, trusted
end

local function wall_clock()
  if input.now then return input.now end
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local now, latest, shown, trusted = read_clock(wall_clock())

-- Another server, or one that was restarted or flushed, may have lost permits that Discord still counts: a new
-- incarnation begins with a warm-up hold. The replication id changes at a restart and at a failover.
local info = redis.pcall('INFO', 'replication')
local run = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or 'unknown'
if values[1] ~= run then
  state.born = now - state.offset
  begin_epoch(now - state.offset, now)
  if input.earliest > 0 then note_shift(now) end
  call('HSET', meta, 'run', run)
  forget_long_routes()
end

local function save()
  local changed = {}
  for _, name in ipairs(FIELDS) do
    if state[name] ~= (stored[name] or 0) then
      changed[#changed + 1] = name
      changed[#changed + 1] = state[name]
    end
  end
  if #changed > 0 then call('HSET', meta, unpack(changed)) end
  -- Once a day is often enough.
  if math.floor(now / DAY) ~= math.floor((stored.last or 0) / DAY) then call('PEXPIRE', meta, 30 * DAY) end
end

-- Extends a key's lifetime to a moment at least.
local function extend_ttl(key, moment)
  local ttl = math.ceil(moment - now) + SLACK
  if call('PTTL', key) < ttl then call('PEXPIRE', key, ttl) end
end
