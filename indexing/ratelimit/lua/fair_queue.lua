-- Part 5: the fair queue of the global budget. In each lane, a waiter's position is the moment of its request, moved
-- back one step of the user's own budget for each call that the user has queued, so that users take turns; a fraction of
-- a millisecond keeps equal moments apart, or Redis would order them by name. Between lanes: start-time fair queueing
-- by their shares. Each grant advances its lane's tag by 1/share, and the lane with the smallest tag goes first. A lane
-- without waiters costs the others nothing.

local TIES = 1024

local function leave_queue(request)
  call('ZREM', queues[request.lane], request.waiter)
  call('ZREM', deadlines, request.lane .. ' ' .. request.waiter)
end

-- Drops waiters that did not return at their moment: their process ended, or they gave up.
local function drop_absent()
  for _, name in ipairs(call('ZRANGEBYSCORE', deadlines, '-inf', now, 'LIMIT', 0, 100)) do
    call('ZREM', queues[tonumber(string.sub(name, 1, 1))], string.sub(name, 3))
    call('ZREM', deadlines, name)
  end
end

-- Returns the number of waiters in each lane.
local function waiters_by_lane()
  return {call('ZCARD', queues[1]), call('ZCARD', queues[2]), call('ZCARD', queues[3])}
end

-- Returns the request's position, and how many waiters of its own lane are before it.
local function find_position(request)
  local queue = queues[request.lane]
  local position = call('ZSCORE', queue, request.waiter)
  if position then
    request.queued = true
    return tonumber(position), call('ZRANK', queue, request.waiter)
  end
  position = now
  if request.user_id ~= '' then
    position = math.max(now, tonumber(call('ZSCORE', tags, request.user_id) or 0))
  end
  position = position + state.tie / TIES
  return position, call('ZCOUNT', queue, '-inf', position)
end

local function lane_tag(lane)
  return math.max(state.served, state['tag' .. lane])
end

-- Returns how many of the `count` waiters of lane `other` go before the request that has `rank` before it in its lane.
local function count_before(request, rank, other, count)
  if count == 0 then return 0 end
  local lead = lane_tag(request.lane) + rank / params.lane_shares[request.lane] - lane_tag(other)
  lead = lead * params.lane_shares[other]
  -- Equal tags: the more urgent lane.
  local first = other < request.lane and math.floor(lead) + 1 or math.ceil(lead)
  return math.max(0, math.min(count, first))
end

-- position: the request's position, nil when there was no waiter, so that it was not looked up.
local function enqueue(request, position, wait)
  if not request.queued then
    position = position or find_position(request)
    call('ZADD', queues[request.lane], position, request.waiter)
    state.tie = (state.tie + 1) % TIES
    call('PEXPIRE', queues[request.lane], 10 * 60000)
    if request.user_id ~= '' then
      call('ZADD', tags, position + params.user_window / params.user_capacity, request.user_id)
    end
  end
  call('ZADD', deadlines, now + wait + params.queue_grace, request.lane .. ' ' .. request.waiter)
  call('PEXPIRE', deadlines, 10 * 60000)
  call('PEXPIRE', tags, 10 * 60000)
end

-- Notes a grant: the lane's next call is due one step later. Without waiters, users need not take turns.
local function advance_lane(request, moment, has_waiters)
  local name = 'tag' .. request.lane
  state.served = lane_tag(request.lane)
  state[name] = state.served + 1 / params.lane_shares[request.lane]
  if request.queued then
    leave_queue(request)
  elseif has_waiters and request.user_id ~= '' then
    call('ZREMRANGEBYSCORE', tags, '-inf', now)
    call('ZADD', tags, moment + params.user_window / params.user_capacity, request.user_id)
    call('PEXPIRE', tags, 10 * 60000)
  end
end
