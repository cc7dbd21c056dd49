-- The line for the global budget: in each lane a place is the moment of asking, moved back one step of the user's own
-- budget for each call he has in line, so that users take turns; a fraction of a millisecond keeps equal moments apart,
-- or Redis would order them by name. Between lanes, start-time fair queueing by their
-- shares: each grant moves its lane's tag on by 1/share, and the lane with the smallest tag goes first. A lane that
-- nobody waits in costs the others nothing.

local TIES = 1024

local function leave(ask)
  call('ZREM', lines[ask.lane], ask.waiter)
  call('ZREM', deadlines, ask.lane .. ' ' .. ask.waiter)
end

-- Waiters that did not come at their moment: their process is gone, or they gave up.
local function drop_absent()
  for _, name in ipairs(call('ZRANGEBYSCORE', deadlines, '-inf', now, 'LIMIT', 0, 100)) do
    call('ZREM', lines[tonumber(string.sub(name, 1, 1))], string.sub(name, 3))
    call('ZREM', deadlines, name)
  end
end

-- Returns how many wait in each lane.
local function waiting()
  return {call('ZCARD', lines[1]), call('ZCARD', lines[2]), call('ZCARD', lines[3])}
end

-- Returns the ask's place, and how many of its own lane stand before it.
local function place(ask)
  local line = lines[ask.lane]
  local moment = call('ZSCORE', line, ask.waiter)
  if moment then
    ask.placed = true
    return tonumber(moment), call('ZRANK', line, ask.waiter)
  end
  moment = now
  if ask.user ~= '' then moment = math.max(now, tonumber(call('ZSCORE', tags, ask.user) or 0)) end
  moment = moment + state.tie / TIES
  return moment, call('ZCOUNT', line, '-inf', moment)
end

local function tag(lane)
  return math.max(state.served, state['tag' .. lane])
end

-- Returns how many of the `count` waiters of lane `other` go before the ask that has `rank` before it in its own lane.
local function before(ask, rank, other, count)
  if count == 0 then return 0 end
  local lead = (tag(ask.lane) + rank / rules.shares[ask.lane] - tag(other)) * rules.shares[other]
  -- Equal tags: the more urgent lane.
  local first = other < ask.lane and math.floor(lead) + 1 or math.ceil(lead)
  return math.max(0, math.min(count, first))
end

-- moment: the ask's place, nil when nobody waited so that it was not looked for.
local function stand(ask, moment, wait)
  if not ask.placed then
    moment = moment or place(ask)
    call('ZADD', lines[ask.lane], moment, ask.waiter)
    state.tie = (state.tie + 1) % TIES
    call('PEXPIRE', lines[ask.lane], 10 * 60000)
    if ask.user ~= '' then call('ZADD', tags, moment + rules.user_window / rules.user_capacity, ask.user) end
  end
  call('ZADD', deadlines, now + wait + rules.grace, ask.lane .. ' ' .. ask.waiter)
  call('PEXPIRE', deadlines, 10 * 60000)
  call('PEXPIRE', tags, 10 * 60000)
end

-- The lane was served: its next call is due one step later. While nobody waits, users need not take turns.
local function serve(ask, moment, crowded)
  local name = 'tag' .. ask.lane
  state.served = tag(ask.lane)
  state[name] = state.served + 1 / rules.shares[ask.lane]
  if ask.placed then
    leave(ask)
  elseif crowded and ask.user ~= '' then
    call('ZREMRANGEBYSCORE', tags, '-inf', now)
    call('ZADD', tags, moment + rules.user_window / rules.user_capacity, ask.user)
    call('PEXPIRE', tags, 10 * 60000)
  end
end
