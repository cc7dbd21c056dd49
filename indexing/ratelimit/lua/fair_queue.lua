-- Part 5: the fair queue of the global budget, fair in three steps.
-- Between lanes: start-time fair queueing by their shares. Each grant advances its lane's tag by 1/share, and the lane
-- with the smallest tag goes first. A lane without waiters costs the others nothing.
-- Between the callers of a lane: the same with equal shares. Each caller has a queue of its own, and `callers` has the
-- virtual moment at which its next call is due; each grant advances it by one.
-- Between the users of a caller: a waiter's position is the moment of its request, moved back one step of the user's own
-- budget for each call that the user has queued, so that users take turns; a fraction of a millisecond keeps equal
-- moments apart, or Redis would order them by name.
-- The unnamed caller '' has the queues and deadlines of the release that knows no callers. Named callers have theirs
-- apart, so that a process of that release neither drops nor strands their waiters.

local TIES = 1024
local CREDIT = 4 -- calls by which a caller that had none queued precedes the others
local QUEUE_TTL = 10 * 60000

local function queue_of(lane, caller)
  return caller == '' and queues[lane] or queues[lane] .. ':' .. caller
end

local function deadline_of(lane, caller, waiter)
  if caller == '' then return deadlines, lane .. ' ' .. waiter end
  return caller_deadlines, lane .. ':' .. caller .. ' ' .. waiter
end

-- Leaves the queue of the chosen caller. Before one is chosen, and under a name, leaves the queues of all callers of the
-- request: calls for one caller each may have queued under the same name before.
local function leave_queue(request)
  local chosen = not request.named and request.caller
  for _, caller in ipairs(chosen and {chosen} or request.callers) do
    call('ZREM', queue_of(request.lane, caller), request.waiter)
    local key, name = deadline_of(request.lane, caller, request.waiter)
    call('ZREM', key, name)
  end
end

local function has_position(request)
  for _, caller in ipairs(request.callers) do
    if call('ZSCORE', queue_of(request.lane, caller), request.waiter) then return true end
  end
  return false
end

local function has_waiters()
  return call('ZCARD', deadlines) > 0 or now < state.named and call('ZCARD', caller_deadlines) > 0
end

-- Drops waiters that did not return at their moment: their process ended, or they gave up.
local function drop_absent()
  for _, name in ipairs(call('ZRANGEBYSCORE', deadlines, '-inf', now, 'LIMIT', 0, 100)) do
    call('ZREM', queues[tonumber(string.sub(name, 1, 1))], string.sub(name, 3))
    call('ZREM', deadlines, name)
  end
  if now >= state.named then return end
  for _, name in ipairs(call('ZRANGEBYSCORE', caller_deadlines, '-inf', now, 'LIMIT', 0, 100)) do
    local lane, caller, waiter = string.match(name, '^(%d):(%S+) (.*)$')
    call('ZREM', queue_of(tonumber(lane), caller), waiter)
    call('ZREM', caller_deadlines, name)
  end
end

-- Returns the least moment at which a call of any caller is due.
local function least_due(lane)
  return state['turn' .. lane] - CREDIT
end

-- Returns by lane and caller the number of waiters, and when the caller's next call is due. The unnamed caller is always
-- there; a named one while it has waiters or precedes nobody.
local function load_lines()
  local lines = {}
  for lane = 1, 3 do
    lines[lane] = {[''] = {count = call('ZCARD', queues[lane]), due = least_due(lane)}}
  end
  if now >= state.named then return lines end
  local entries = call('ZRANGE', callers, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local lane, caller = tonumber(string.sub(entries[i], 1, 1)), string.sub(entries[i], 3)
    local due = tonumber(entries[i + 1])
    local count = caller == '' and lines[lane][''].count or call('ZCARD', queue_of(lane, caller))
    if count == 0 and due <= least_due(lane) then
      call('ZREM', callers, entries[i])
    else
      lines[lane][caller] = {count = count, due = math.max(due, least_due(lane))}
    end
  end
  return lines
end

-- Returns the number of waiters in each lane.
local function waiters_by_lane(lines)
  local counts = {0, 0, 0}
  for lane = 1, 3 do
    for _, line in pairs(lines[lane]) do counts[lane] = counts[lane] + line.count end
  end
  return counts
end

-- Chooses the caller in whose queue the request is or will be: of several, the one that is due first.
local function choose_caller(request, lines)
  request.caller, request.due = nil, nil
  for _, caller in ipairs(request.callers) do
    local line = lines[request.lane][caller]
    local due = line and line.due or least_due(request.lane)
    local position = call('ZSCORE', queue_of(request.lane, caller), request.waiter)
    if position or not request.caller or due < request.due then request.caller, request.due = caller, due end
    if position then
      request.queued = true
      return tonumber(position)
    end
  end
end

-- Returns the request's position, and how many waiters of its caller are before it.
local function find_position(request, lines)
  local position = choose_caller(request, lines)
  local queue = queue_of(request.lane, request.caller)
  if position then return position, call('ZRANK', queue, request.waiter) end
  position = now
  if request.user_id ~= '' then
    position = math.max(now, tonumber(call('ZSCORE', tags, request.user_id) or 0))
  end
  position = position + state.tie / TIES
  return position, call('ZCOUNT', queue, '-inf', position)
end

-- Returns how many of `count` waiters, whose first is due `lead` before this one and each other one a step later, go
-- before it; `first` decides equal moments.
local function count_due_before(lead, count, first)
  return math.max(0, math.min(count, first and math.floor(lead) + 1 or math.ceil(lead)))
end

-- Returns how many waiters of the request's lane go before it when `rank` of its own caller do.
local function count_in_lane(request, lines, rank)
  local ahead = rank
  for caller, line in pairs(lines[request.lane]) do
    if caller ~= request.caller and line.count > 0 then
      ahead = ahead + count_due_before(request.due + rank - line.due, line.count, caller < request.caller)
    end
  end
  return ahead
end

local function lane_tag(lane)
  return math.max(state.served, state['tag' .. lane])
end

-- Returns how many of the `count` waiters of lane `other` go before the request that has `rank` before it in its lane.
local function count_before(request, rank, other, count)
  if count == 0 then return 0 end
  local lead = lane_tag(request.lane) + rank / params.lane_shares[request.lane] - lane_tag(other)
  -- Equal tags: the more urgent lane.
  return count_due_before(lead * params.lane_shares[other], count, other < request.lane)
end

-- Notes when the caller's next call is due. While only the unnamed caller queues, nothing is noted.
local function note_due(request, due)
  if request.caller == '' and now >= state.named then return end
  if request.caller ~= '' then state.named = math.max(state.named, now + QUEUE_TTL) end
  call('ZADD', callers, due, request.lane .. ':' .. request.caller)
  call('PEXPIRE', callers, QUEUE_TTL)
end

-- position: the request's position, nil when there was no waiter, so that it was not looked up.
local function enqueue(request, position, wait)
  position = position or find_position(request, load_lines())
  if not request.queued then
    local queue = queue_of(request.lane, request.caller)
    call('ZADD', queue, position, request.waiter)
    state.tie = (state.tie + 1) % TIES
    call('PEXPIRE', queue, QUEUE_TTL)
    if request.user_id ~= '' then
      call('ZADD', tags, position + params.user_window / params.user_capacity, request.user_id)
    end
    note_due(request, request.due)
  end
  local key, name = deadline_of(request.lane, request.caller, request.waiter)
  call('ZADD', key, now + wait + request.grace, name)
  call('PEXPIRE', key, QUEUE_TTL)
  call('PEXPIRE', tags, QUEUE_TTL)
end

-- Notes a grant: the next call of the lane, and of the caller, is due one step later. Without waiters, callers and users
-- need not take turns.
local function advance_lane(request, moment)
  local name = 'tag' .. request.lane
  state.served = lane_tag(request.lane)
  state[name] = state.served + 1 / params.lane_shares[request.lane]
  if not request.has_waiters then return end
  local turn = 'turn' .. request.lane
  state[turn] = math.max(state[turn], request.due)
  note_due(request, request.due + 1)
  if request.queued then
    leave_queue(request)
  elseif request.user_id ~= '' then
    call('ZREMRANGEBYSCORE', tags, '-inf', now)
    call('ZADD', tags, moment + params.user_window / params.user_capacity, request.user_id)
    call('PEXPIRE', tags, QUEUE_TTL)
  end
end
