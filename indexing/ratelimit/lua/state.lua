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
-- Reply: {now, what Redis' clock shows, born, the era if that was believed else 0, {reply to each settlement},
--   {reply to each ask}}.
-- Units: milliseconds everywhere; moments are those of the fleet's clock, see `clock`.
local meta, ledger, deadlines, tags = KEYS[1], KEYS[2], KEYS[6], KEYS[7]
local lines = {KEYS[3], KEYS[4], KEYS[5]}
local learned, egress, active = KEYS[8], KEYS[9], KEYS[10]
local said = cjson.decode(ARGV[1])
local call = redis.call

local FIELDS = {
  'last', 'offset',                     -- the fleet's clock, and what it has more than Redis' own
  'born',                               -- names the time since state was lost or Redis was another one
  'era',                                -- the part of it since Redis' clock was set
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
local SLACK = 10000 -- keys outlive their last entry by this much, so that a step of the clock cannot drop them early

local state, stored = {}, {}
local values = call('HMGET', meta, 'run', unpack(FIELDS))
for i, name in ipairs(FIELDS) do
  stored[name] = tonumber(values[i + 1])
  state[name] = stored[name] or 0
end

-- From now on all that was read of the clock before says nothing; and nothing goes until no call of before can count.
local function begin_era(wall, moment)
  state.era, state.offset = wall, moment - wall
  state.hold = math.max(state.hold, moment + rules.hold)
end

-- One clock for the fleet: Redis' own, checked by the stopwatches of who asks. When this was sent it was `expected` at
-- the earliest, `loose` later at the latest (stopwatch.py). When Redis shows much more, this was long on its way or
-- Redis' clock was set: we cannot tell, so what is free goes by the earliest moment, what is held by the latest. Who asked
-- can tell by when the reply came, and says so the next time (`ahead`). When Redis shows much less, its clock was set.
-- Once it was set, nobody knows exactly how late it is: an era ends, and nothing goes until that does not matter. In the
-- new era the fleet's clock shows less than it would have, never more: who comes from an older one still knows the latest
-- moment, though not the earliest. Who has just started has nothing to compare with and believes Redis. So does who comes
-- from before the loss of our state; but what he believes ends no hold that was still on.
-- Returns both moments, what Redis shows, and whether that was believed.
local function clock(wall)
  local shown = wall + state.offset
  local compares = said.expected > 0 and said.born == state.born
  local known = compares and said.era == state.era
  local least = known and math.max(said.expected, state.last) or state.last
  local most = compares and said.expected + said.loose or shown
  local ahead = shown > most + JUMP
  local now, believed = math.max(shown, least), true
  if said.ahead and (known or ahead) then
    now = least
    begin_era(wall, now)
  elseif shown < least - JUMP then
    begin_era(wall, now)
  elseif ahead then
    now, believed = least, false
  elseif not compares and said.expected > 0 and state.last < state.hold and shown > state.last + JUMP then
    begin_era(wall, now)
  else
    state.offset = now - wall
  end
  state.last = now
  return now, math.max(now, most), shown, believed
end

local function wall()
  if said.now then return said.now end
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local now, latest, shown, believed = clock(wall())

-- Another server, or one that was restarted or flushed, knows less than Discord does: nothing goes for a while.
-- The replication id is another one after a restart and after a failover.
local info = redis.pcall('INFO', 'replication')
local run = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or 'unknown'
if values[1] ~= run then
  state.born = now - state.offset
  begin_era(now - state.offset, now)
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
