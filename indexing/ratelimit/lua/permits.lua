-- A budget's ledger: one entry for each permit, scored with the moment at which it is free again. While its call is on
-- the way, that moment lies `inflight` (longest call and fence) plus the window ahead; the settlement brings it forward.
-- Two entries are no permits: '!' (paused by Discord) and '!shared' (paused, but not because of us).

-- Drops what is free again. Returns the permits held, the moment until which the budget is paused (0: it is not), why.
local function held(key)
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  local used = call('ZCARD', key)
  if used == 0 or now >= state.paused then return used, 0, '' end
  local moments = call('ZMSCORE', key, '!', '!shared')
  local ours, theirs = tonumber(moments[1] or 0), tonumber(moments[2] or 0)
  if ours > 0 then used = used - 1 end
  if theirs > 0 then used = used - 1 end
  return used, math.max(ours, theirs), ours >= theirs and 'pause' or 'shared'
end

-- Returns the shortest round trip of the fleet lately, 0 until enough answers came.
local function shortest()
  if state.rtt_old > 0 then return math.min(state.rtt_new, state.rtt_old) end
  return state.rtt_n >= rules.enough and state.rtt_new or 0
end

-- Returns the moment at which the n-th permit from now on comes back, and whether that is sure. First come those that
-- are held, then those that are free now and are taken by who stands before; then all of them again, later by a window
-- and a usual round trip. One whose call is still on the way is expected after a usual round trip, rather too early than
-- too late.
local function release(key, n, used, capacity, window)
  local rounds = math.floor((n - 1) / capacity)
  local index = (n - 1) % capacity
  local moment, sure = now + math.max(window - shortest(), rules.probe), false
  if index < used then
    local found = tonumber(call('ZRANGE', key, index, index, 'WITHSCORES')[2])
    sure = rounds == 0 and found <= now + window
    moment = found <= now + window and found or math.max(moment, found - rules.inflight + state.rtt - shortest())
  end
  return moment + rounds * (window + math.max(0, state.rtt - shortest())), sure
end

local function pause(key, name, moment)
  call('ZADD', key, 'GT', moment, name)
  state.paused = math.max(state.paused, moment)
  keep(key, moment)
end
