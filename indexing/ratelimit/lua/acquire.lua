-- Part 6: decides a permit request: one permit of each of its budgets, or none. Replies
--   {1, delay, used, capacity, user_used, route_used}  granted, to be sent not before `delay` from now; capacity 0: the
--                                                      global budget was not charged
--   {0, wait, budget, reason}                          request again after `wait`; nothing is held
--   {0, 0, 'taken', 'taken'}                           another call used the shared position of a request that returns
--   {2, stored limit}                                  the route has another limit; request again with it
-- Bulk lanes are background and refresh.

-- Returns the permits of the global budget that are left to foreign usage now.
local function foreign_permits()
  return math.max(0, state.fewer - math.floor((now - state.fewer_at) / params.foreign_decay))
end

-- Returns whether the capacity of the global budget still grows after a pause, or will after one that lasts.
local function is_ramping()
  return now < state.ramp + params.ramp
end

-- Returns the capacity of the global budget now: reduced while it ramps up after a pause, and by foreign usage.
local function global_capacity()
  local share = 1
  if is_ramping() then share = math.min(1, 0.5 + 0.5 * (now - state.ramp) / params.ramp) end
  return math.max(1, math.floor(params.global_capacity * share) - foreign_permits())
end

-- Returns when the n-th permit of the global budget from a moment on is expected while its capacity grows. From `from`
-- on it grows evenly over two ramps, so that x milliseconds later x * x / (4 * ramp * step) calls were possible. By the
-- capacity of now, a waiter of a long pause would sleep for a second for each one before it.
local function expected_while_ramping(moment, n)
  local from, ramp = state.ramp - params.ramp, params.ramp
  local step = params.global_window / math.max(1, params.global_capacity - foreign_permits())
  local x = math.max(moment, now, from) - from
  local y = n * step + (x <= 2 * ramp and x * x / (4 * ramp) or x - ramp)
  return from + (y <= ramp and math.sqrt(4 * ramp * y) or ramp + y)
end

-- Keeps the longest of a request's waits.
local function add_wait(decision, moment, certain, budget, reason)
  local wait = math.ceil(moment - now)
  if wait > 0 and not certain then decision.certain = false end
  if wait > decision.wait then decision.wait, decision.budget, decision.reason = wait, budget, reason end
end

-- Returns what stops all lanes, or the bulk lanes: the latest of their ends, its budget and its reason.
local function current_stop(request)
  local stop = {moment = state.hold, budget = 'global', reason = 'hold'}
  local function keep_later(moment, budget, reason)
    if moment > stop.moment then stop = {moment = moment, budget = budget, reason = reason} end
  end
  keep_later(state.pause, 'global', 'pause')
  if now >= state.stopped then return stop end
  local moments = call('HMGET', egress, 'edge', 'all', 'bulk')
  keep_later(tonumber(moments[1]) or 0, 'egress', 'pause')
  keep_later(tonumber(moments[2]) or 0, 'egress', 'breaker')
  if request.lane > 1 then keep_later(tonumber(moments[3]) or 0, 'egress', 'breaker') end
  return stop
end

-- Returns until when the calls with tokens of a caller are stopped, 0 when they are not.
local function caller_stop(caller)
  if caller == '' or now >= state.stopped then return 0 end
  return tonumber(call('HGET', egress, 'stop ' .. caller) or 0)
end

-- Checks a user's or a route's budget. Its queue holds the waiters that return at their moment, so that each release
-- wakes one. Returns the permits held.
local function check_small_budget(request, decision, budget)
  local used, paused, reason = held(budget.key)
  if paused > 0 then add_wait(decision, paused, false, budget.name, reason) end
  if budget.capacity > 0 then
    local rank = call('ZCARD', budget.queue)
    if rank > 0 then
      budget.has_waiters = true
      call('ZREMRANGEBYSCORE', budget.queue, '-inf', now - request.grace)
      rank = call('ZRANK', budget.queue, request.waiter) or call('ZCARD', budget.queue)
    end
    local n = used - budget.capacity + rank + 1
    if n > 0 then
      local moment, certain = now + params.probe_retry, false
      if not budget.probe_window then
        moment, certain = release_moment(budget.key, n, used, budget.capacity, budget.window)
      end
      budget.blocks = true
      if budget.unproven and moment > now + params.unproven_max_wait then
        moment, certain = now + params.unproven_max_wait, false
      end
      add_wait(decision, moment, certain, budget.name, budget.reason)
    end
  end
  return used
end

-- Keeps or drops the request's position in the queue of a user's or a route's budget.
local function update_small_queue(request, decision, budget)
  if budget.blocks and (request.named or decision.wait <= request.max_wait) then
    call('ZADD', budget.queue, now + decision.wait, request.waiter)
    call('PEXPIRE', budget.queue, decision.wait + 60000)
  elseif budget.has_waiters then
    call('ZREM', budget.queue, request.waiter)
  end
end

-- Returns the request's position, how many waiters go before it, and how many of those are in bulk lanes.
local function count_ahead(request)
  local lines = load_lines()
  local position, rank = find_position(request, lines)
  rank = count_in_lane(request, lines, rank)
  local counts, all, bulk = waiters_by_lane(lines), rank, rank
  for other = 1, 3 do
    if other ~= request.lane then
      local more = count_before(request, rank, other, counts[other])
      all = all + more
      if other > 1 then bulk = bulk + more end
    end
  end
  return position, all, bulk
end

-- Returns the interval of bulk calls: a little more than a window's share, because a permit is also held while its
-- answer travels. At exactly one share they would catch up with the releases, and an interactive call would find none.
local function pace_interval(limit)
  local held_longer = math.max(0, state.rtt - params.global_credit * shortest_round_trip())
  return (params.global_window + held_longer / 2) / limit
end

-- Checks the global budget and its queue. Bulk lanes are paced, so that an interactive call soon finds a permit.
local function check_global_budget(request, decision)
  local limit, used = global_capacity(), held(ledger)
  local position, all, bulk = nil, 0, 0
  if has_waiters() then
    drop_absent()
    request.has_waiters = true
    position, all, bulk = count_ahead(request)
  end
  local stop = current_stop(request)
  local latest_return = is_ramping() and expected_while_ramping(stop.moment, all + 1) or math.huge
  local function add(moment, certain, budget, reason)
    add_wait(decision, math.min(moment, latest_return), certain and moment <= latest_return, budget, reason)
  end
  if stop.moment > now then
    add(stop.moment + all * params.global_window / limit, false, stop.budget, stop.reason)
  end
  local n = used - limit + all + 1
  if request.lane > 1 then
    add(state.pace + (bulk - params.bulk_burst) * pace_interval(limit), true, 'global', 'used up')
  end
  if n > 0 then
    local moment, certain = release_moment(ledger, n, used, limit, params.global_window)
    add(moment, certain, 'global', 'used up')
  end
  return used, limit, position
end

local function hold_permit(key, id, moment, window)
  local free = moment + latest - now + params.max_in_flight + window
  call('ZADD', key, free, id)
  call('PEXPIRE', key, math.ceil(free - now) + SLACK)
end

-- Takes a permit of each budget, from `moment` on.
local function grant(request, user, route, limit, moment)
  if request.charges_global then hold_permit(ledger, request.id, moment, params.global_window) end
  for _, budget in ipairs({user, route}) do
    if budget.capacity > 0 then hold_permit(budget.key, request.id, moment, budget.probe_window or budget.window) end
    if budget.has_waiters then call('ZREM', budget.queue, request.waiter) end
  end
  -- While guilds share the bucket, a call in flight also counts for its guild: separate buckets may be proven meanwhile.
  if route.own_guild ~= route.key and route.capacity > 0 then
    hold_permit(route.own_guild, request.id, moment, route.window)
  end
  call('ZADD', active, moment + params.max_in_flight + route.window, route.label)
  if not request.charges_global then return leave_queue(request) end
  advance_lane(request, moment)
  if request.lane > 1 then state.pace = math.max(moment, state.pace) + pace_interval(limit) end
end

local function is_refused(request, decision)
  return decision.wait > 0 and (decision.wait > request.early or not decision.certain)
end

local function acquire(request, user, route)
  local value = call('HGET', learned, request.route_key) or ''
  if value ~= request.stored_limit then
    -- The process remembers what Redis has lost.
    if value == '' then hold_route(request.route_key, request.window) end
    return {2, value}
  end
  if request.returns and not has_position(request) then return {0, 0, 'taken', 'taken'} end
  local decision = {wait = 0, certain = true, budget = '', reason = ''}
  local stopped_until = caller_stop(request.brought_by)
  if stopped_until > now then
    -- It keeps no position: for minutes nobody would claim it.
    leave_queue(request)
    return {0, math.ceil(stopped_until - now), 'egress', 'caller'}
  end
  local user_used = user.capacity > 0 and check_small_budget(request, decision, user) or 0
  local route_used = check_small_budget(request, decision, route)
  if value == '' then
    local lost_until = tonumber(call('HGET', learned, request.route_key .. ' lost') or 0)
    add_wait(decision, lost_until, false, route.name, 'hold')
  end
  if now < state.repeated then
    add_wait(decision, repeated_until(request.label), false, route.name, 'pause')
  end
  if is_refused(request, decision) then
    leave_queue(request)
    update_small_queue(request, decision, user)
    update_small_queue(request, decision, route)
    return {0, decision.wait, decision.budget, decision.reason}
  end
  local used, limit, position = 0, 0, nil
  if request.charges_global then
    used, limit, position = check_global_budget(request, decision)
  else
    local stop = current_stop(request)
    if stop.moment > now then add_wait(decision, stop.moment, false, stop.budget, stop.reason) end
  end
  if is_refused(request, decision) then
    if request.charges_global and (request.named or decision.wait <= request.max_wait) then
      enqueue(request, position, decision.wait)
    elseif request.has_waiters or not request.charges_global then
      leave_queue(request)
    end
    return {0, decision.wait, decision.budget, decision.reason}
  end
  if route_used == 0 then
    call('ZREMRANGEBYSCORE', active, '-inf', now)
    call('PEXPIRE', active, DAY)
  end
  grant(request, user, route, limit, now + decision.wait)
  return {1, decision.wait, used + 1, limit, user_used + 1, route_used + 1}
end
