-- First part of the one script by which a process talks to the budgets: what it reads and writes, the clock, helpers.
-- The parts are joined in the order state, permits, routes, settle, line, acquire, exchange and run as one, atomically.
--
-- KEYS, all under one hash tag:
--   1  meta      hash  clock, run, hold, pause, pacing, lanes, round trips: FIELDS below
--   2  ledger    zset  permit id -> moment of release (global budget)
--   3-5 lines    zset  waiter -> place, a moment; one for each lane: interactive, background, refresh
--   6  deadlines zset  "<lane> <waiter>" -> moment after which the waiter counts as gone
--   7  tags      zset  user -> moment from which his next call is in its turn (fairness inside a lane)
--   8  learned   hash  "<kind> <route>" -> "bucket capacity window split"; with suffix: what is not settled yet
--   9  egress    hash  invalid answers by minute, and until when which lanes stop
--   10 active    zset  route budgets in use: name -> moment of the last release, for display
--   then for each settlement: user ledger, route ledger as taken, route ledger of all guilds, of its guild
--   then for each ask: user ledger, user line, route ledger, route line, route ledger of its guild
-- ARGV: 1 what is said; JSON, fields by name (wire.py).
-- The driver puts `local rules = {...}` before this part: the numbers of budgets.Rules, so that they need no parsing.
-- Reply: {now, {reply to each settlement}, {reply to each ask}}.
-- Units: milliseconds everywhere; moments are those of the fleet's clock, see `clock`.
local meta, ledger, deadlines, tags = KEYS[1], KEYS[2], KEYS[6], KEYS[7]
local lines = {KEYS[3], KEYS[4], KEYS[5]}
local learned, egress, active = KEYS[8], KEYS[9], KEYS[10]
local said = cjson.decode(ARGV[1])
local call = redis.call

local FIELDS = {
  'last', 'offset',                     -- the fleet's clock
  'hold',                               -- nothing goes before this moment: state was lost
  'pause', 'ramp', 'fewer', 'fewer_at', -- Discord said stop; where the ramp began; permits left to others, since when
  'paused', 'stopped',                  -- until then some budget may be paused, or some address stopped: look only then
  'pace',                               -- moment of the next bulk call if all came evenly
  'served', 'tag1', 'tag2', 'tag3',     -- virtual time of the lanes, and of each lane's next call
  'tie',                                -- counts places, for the order of those asked for at the same moment
  'rtt', 'rtt_new', 'rtt_old', 'rtt_n', 'rtt_at', -- usual round trip; shortest in this and the last stretch
}
local DAY = 86400000
local JUMP = 100    -- an exchange with Redis hardly ever takes longer; two clocks differ by less than a thousandth
local SLACK = 10000 -- keys outlive their last entry by this much, so that a step of the clock cannot drop them early

local state, stored = {}, {}
local values = call('HMGET', meta, 'run', unpack(FIELDS))
for i, name in ipairs(FIELDS) do
  stored[name] = tonumber(values[i + 1])
  state[name] = stored[name] or 0
end

-- One clock for the fleet: Redis' own, corrected so that it neither steps back nor jumps. The caller says how long ago,
-- by its stopwatch, it was told which moment. It is at least that late now, and hardly later; when the clock shows
-- something else it was set, or this exchange was long on its way: then the earlier moment is the safe one.
local function clock()
  local wall = said.now
  if not wall then
    local time = call('TIME')
    wall = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local now = wall + state.offset
  if said.given > 0 and said.elapsed < 60000 then
    local expected = said.given + said.elapsed
    if now < expected or now > expected + JUMP + said.elapsed / 1000 then now = expected end
  end
  now = math.max(now, state.last)
  state.offset, state.last = now - wall, now
  return now
end

local now = clock()

-- Another server, or one that was restarted or flushed, knows less than Discord does: nothing goes for a while.
-- The replication id is another one after a restart and after a failover.
local info = redis.pcall('INFO', 'replication')
local run = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or 'unknown'
if values[1] ~= run then
  state.hold = math.max(state.hold, now + rules.hold)
  call('HSET', meta, 'run', run)
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

-- Lets a key live at least until a moment.
local function keep(key, moment)
  local ttl = math.ceil(moment - now) + SLACK
  if call('PTTL', key) < ttl then call('PEXPIRE', key, ttl) end
end
