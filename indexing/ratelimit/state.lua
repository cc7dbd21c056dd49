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
-- Reply: {now, 1 if Redis' clock was believed else 0, {reply to each settlement}, {reply to each ask}}.
-- Units: milliseconds everywhere; moments are those of the fleet's clock, see `clock`.
local meta, ledger, deadlines, tags = KEYS[1], KEYS[2], KEYS[6], KEYS[7]
local lines = {KEYS[3], KEYS[4], KEYS[5]}
local learned, egress, active = KEYS[8], KEYS[9], KEYS[10]
local said = cjson.decode(ARGV[1])
local call = redis.call

local FIELDS = {
  'last', 'offset', 'odd', 'odd_since', -- the fleet's clock; how often, since when Redis' own showed too much
  'doubt',                              -- until then what Redis' clock shows may be too little
  'hold',                               -- nothing goes before this moment: state was lost
  'pause', 'ramp', 'fewer', 'fewer_at', -- Discord said stop; where the ramp began; permits left to others, since when
  'paused', 'stopped',                  -- until then some budget may be paused, or some address stopped: look only then
  'pace',                               -- moment of the next bulk call if all came evenly
  'served', 'tag1', 'tag2', 'tag3',     -- virtual time of the lanes, and of each lane's next call
  'tie',                                -- counts places, for the order of those asked for at the same moment
  'rtt', 'rtt_new', 'rtt_old', 'rtt_n', 'rtt_at', -- usual round trip; shortest in this and the last stretch
}
local DAY = 86400000
local JUMP = 100 -- an exchange with Redis hardly ever takes longer
local MINUTE = 60000
local ODD_MANY, ODD_LONG = 5, 1000 -- and not so many of them, and not for so long
local SLACK = 10000 -- keys outlive their last entry by this much, so that a step of the clock cannot drop them early

local state, stored = {}, {}
local values = call('HMGET', meta, 'run', unpack(FIELDS))
for i, name in ipairs(FIELDS) do
  stored[name] = tonumber(values[i + 1])
  state[name] = stored[name] or 0
end

-- One clock for the fleet: Redis' own, checked by the stopwatches of who asks. When this was sent it was `expected` at
-- the earliest, `loose` later at the latest (stopwatch.py). When Redis shows much more, either this was long on its way
-- or Redis' clock was set: nobody can tell at once. So what is free goes by the earliest moment that it can be, what is
-- held by the latest, and only what stays odd is taken for a clock that was set. When it stepped back under one who
-- has nothing to compare it with, nobody goes by it until somebody has, or for a minute.
-- Returns both moments, and whether Redis' clock was believed.
local function clock()
  local wall = said.now
  if not wall then
    local time = call('TIME')
    wall = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local shown = wall + state.offset
  local now, latest = shown, shown
  if said.expected > 0 then
    latest = said.expected + said.loose
    if shown < said.expected then
      now, state.offset = said.expected, said.expected - wall
    elseif shown <= latest + JUMP then
      state.odd = 0
    else
      now = said.expected
      if state.odd == 0 then state.odd_since = shown end
      state.odd = state.odd + 1
      if state.odd >= ODD_MANY and shown - state.odd_since > ODD_LONG then
        state.offset, state.odd = said.expected - wall, 0
      end
    end
  end
  if said.expected > 0 then
    state.doubt = 0
  elseif now < state.last then
    state.doubt = state.last + MINUTE
  end
  if now < state.last then
    now = state.last
    state.offset = math.max(state.offset, now - wall)
  end
  state.last = now
  return now, math.max(now, latest), now == shown and now >= state.doubt
end

local now, latest, believed = clock()

-- Another server, or one that was restarted or flushed, knows less than Discord does: nothing goes for a while.
-- The replication id is another one after a restart and after a failover.
local info = redis.pcall('INFO', 'replication')
local run = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or 'unknown'
if values[1] ~= run then
  state.hold = math.max(state.hold, latest + rules.hold)
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
