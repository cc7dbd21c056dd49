-- Part 2: ledgers. A budget's ledger has one entry per permit, scored with the moment at which the permit is free again.
-- While its call is in flight, that moment lies `max_in_flight` plus the window ahead; the settlement brings it forward.
-- Two entries are not permits: '!' (paused by Discord) and '!shared' (paused by a limit that the fleet did not cause).

-- Removes what is free again. Returns the permits held, the moment until which the budget is paused (0: it is not), and
-- the reason.
local function held(key)
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  local used = call('ZCARD', key)
  if used == 0 or now >= state.paused then return used, 0, '' end
  local moments = call('ZMSCORE', key, '!', '!shared')
  local own, shared = tonumber(moments[1] or 0), tonumber(moments[2] or 0)
  if own > 0 then used = used - 1 end
  if shared > 0 then used = used - 1 end
  return used, math.max(own, shared), own >= shared and 'pause' or 'shared'
end

-- Returns the shortest round trip of the fleet in this and the previous period, 0 until there are enough answers.
local function shortest_round_trip()
  if state.rtt_old > 0 then return math.min(state.rtt_new, state.rtt_old) end
  return state.rtt_n >= params.round_trip_samples and state.rtt_new or 0
end

-- Returns the moment at which the n-th permit from now is released, and whether that is certain. The order is: permits
-- that are held; permits that are free now, which earlier waiters take; then all of them again, later by a window and a
-- usual round trip. A permit whose call is in flight is expected after a usual round trip, rather too early than too late.
local function release_moment(key, n, used, capacity, window)
  local rounds = math.floor((n - 1) / capacity)
  local index = (n - 1) % capacity
  local moment, certain = now + math.max(window - shortest_round_trip(), params.probe_retry), false
  if index < used then
    local found = tonumber(call('ZRANGE', key, index, index, 'WITHSCORES')[2])
    certain = rounds == 0 and found <= now + window
    local expected = math.max(moment, found - params.max_in_flight + state.rtt - shortest_round_trip())
    moment = found <= now + window and found or expected
  end
  return moment + rounds * (window + math.max(0, state.rtt - shortest_round_trip())), certain
end

local function pause(key, name, moment)
  call('ZADD', key, 'GT', moment, name)
  state.paused = math.max(state.paused, moment)
  extend_ttl(key, moment)
end
