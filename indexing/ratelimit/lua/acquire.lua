-- An ask: all its budgets, or none. Replies
--   {1, delay, used, capacity, user_used, route_used}  granted, to be sent not before `delay` from now
--   {0, wait, budget, why}                             ask again then; nothing is held
--   {2, value}                                         the route's learned limit is another one; ask with that

-- Returns the capacity of the global budget now: less while it ramps up after a pause, and where others use our token.
local function capacity()
  local share = 1
  if now < state.ramp + rules.ramp then share = math.min(1, 0.5 + 0.5 * (now - state.ramp) / rules.ramp) end
  local fewer = math.max(0, state.fewer - math.floor((now - state.fewer_at) / rules.forget))
  return math.max(1, math.floor(rules.capacity * share) - fewer)
end

-- Remembers the longest of an ask's waits.
local function delay(verdict, moment, sure, budget, why)
  local wait = math.ceil(moment - now)
  if wait > 0 and not sure then verdict.sure = false end
  if wait > verdict.wait then verdict.wait, verdict.budget, verdict.why = wait, budget, why end
end

-- What stops everybody, or the lanes in which nobody waits: the latest of their ends, whose, and why.
local function stopped(ask)
  local stop = {moment = state.hold, budget = 'global', why = 'hold'}
  local function later(moment, budget, why)
    if moment > stop.moment then stop = {moment = moment, budget = budget, why = why} end
  end
  later(state.pause, 'global', 'pause')
  if now >= state.stopped then return stop end
  local moments = call('HMGET', egress, 'edge', 'all', 'bulk')
  later(tonumber(moments[1]) or 0, 'egress', 'pause')
  later(tonumber(moments[2]) or 0, 'egress', 'breaker')
  if ask.lane > 1 then later(tonumber(moments[3]) or 0, 'egress', 'breaker') end
  return stop
end

-- A budget that few share: user or route. Its line holds who will come at his moment, so that each release brings one.
local function own(ask, verdict, budget)
  local used, paused, why = held(budget.key)
  if paused > 0 then delay(verdict, paused, false, budget.name, why) end
  if budget.capacity > 0 then
    local rank = call('ZCARD', budget.line)
    if rank > 0 then
      budget.crowded = true
      call('ZREMRANGEBYSCORE', budget.line, '-inf', now - rules.grace)
      rank = call('ZRANK', budget.line, ask.waiter) or call('ZCARD', budget.line)
    end
    local n = used - budget.capacity + rank + 1
    if n > 0 then
      local moment, sure = now + rules.probe, false
      if not budget.lost then moment, sure = release(budget.key, n, used, budget.capacity, budget.window) end
      budget.blocks = true
      if budget.unproven and moment > now + rules.unproven then moment, sure = now + rules.unproven, false end
      delay(verdict, moment, sure, budget.name, budget.why)
    end
  end
  return used
end

local function sleep_for(ask, verdict, budget)
  if budget.blocks and (ask.named or verdict.wait <= ask.patience) then
    call('ZADD', budget.line, now + verdict.wait, ask.waiter)
    call('PEXPIRE', budget.line, verdict.wait + 60000)
  elseif budget.crowded then
    call('ZREM', budget.line, ask.waiter)
  end
end

-- Returns the ask's place, how many go before it, and how many of those in bulk lanes.
local function ahead_of(ask, counts)
  local moment, rank = place(ask)
  local all, bulk = rank, rank
  for other = 1, 3 do
    if other ~= ask.lane then
      local more = before(ask, rank, other, counts[other])
      all = all + more
      if other > 1 then bulk = bulk + more end
    end
  end
  return moment, all, bulk
end

-- Bulk calls go this far apart: a little more than a window's share, because a permit is also busy while its answer
-- travels. At exactly one share they would catch up with the permits, and an interactive call would find none.
local function pace(limit)
  return (rules.window + math.max(0, state.rtt - rules.global_credit * shortest()) / 2) / limit
end

-- The global budget and its line; bulk lanes are paced, so that an interactive call soon finds a permit.
local function shared(ask, verdict)
  local limit, used = capacity(), held(ledger)
  local step = rules.window / limit
  local moment, all, bulk = nil, 0, 0
  if call('ZCARD', deadlines) > 0 then
    drop_absent()
    ask.crowded = true
    moment, all, bulk = ahead_of(ask, waiting())
  end
  local stop = stopped(ask)
  -- After a stop they come one by one.
  if stop.moment > now then delay(verdict, stop.moment + all * step, false, stop.budget, stop.why) end
  local n = used - limit + all + 1
  if ask.lane > 1 then
    n = n + rules.reserve
    delay(verdict, state.pace + (bulk - rules.burst) * pace(limit), true, 'global', 'used up')
  end
  if n > 0 then
    local free, sure = release(ledger, n, used, limit, rules.window)
    delay(verdict, free, sure, 'global', 'used up')
  end
  return used, limit, moment
end

local function hold(key, id, moment, window)
  local free = moment + latest - now + rules.inflight + window
  call('ZADD', key, free, id)
  call('PEXPIRE', key, math.ceil(free - now) + SLACK)
end

-- Takes a permit of each budget, from `moment` on.
local function grant(ask, user, route, limit, moment)
  hold(ledger, ask.id, moment, rules.window)
  for _, budget in ipairs({user, route}) do
    if budget.capacity > 0 then hold(budget.key, ask.id, moment, budget.lost or budget.window) end
    if budget.crowded then call('ZREM', budget.line, ask.waiter) end
  end
  -- While guilds still share the bucket, what is on its way counts for its guild too: they may be proven apart meanwhile.
  if route.part ~= route.key and route.capacity > 0 then hold(route.part, ask.id, moment, route.window) end
  call('ZADD', active, moment + rules.inflight + route.window, route.label)
  serve(ask, moment, ask.crowded)
  if ask.lane > 1 then state.pace = math.max(moment, state.pace) + pace(limit) end
end

local function refused(verdict)
  return verdict.wait > 0 and (verdict.wait > rules.ahead or not verdict.sure)
end

local function acquire(ask, user, route)
  local value = call('HGET', learned, ask.field) or ''
  if value ~= ask.known then return {2, value} end
  local verdict = {wait = 0, sure = true, budget = '', why = ''}
  local user_used = user.capacity > 0 and own(ask, verdict, user) or 0
  local route_used = own(ask, verdict, route)
  if refused(verdict) then
    leave(ask)
    sleep_for(ask, verdict, user)
    sleep_for(ask, verdict, route)
    return {0, verdict.wait, verdict.budget, verdict.why}
  end
  local used, limit, moment = shared(ask, verdict)
  if refused(verdict) then
    if ask.named or verdict.wait <= ask.patience then
      stand(ask, moment, verdict.wait)
    elseif ask.crowded then
      leave(ask)
    end
    return {0, verdict.wait, verdict.budget, verdict.why}
  end
  if route_used == 0 then
    call('ZREMRANGEBYSCORE', active, '-inf', now)
    call('PEXPIRE', active, DAY)
  end
  grant(ask, user, route, limit, now + verdict.wait)
  return {1, verdict.wait, used + 1, limit, user_used + 1, route_used + 1}
end
