-- A settlement: what became of a permit. Replies {strangers, value of `learned`, credit for the global budget}.

-- The shortest round trip of the fleet in this stretch and the one before; a stretch is over after `stretch`
-- milliseconds and `enough` answers, so that it is never a guess from a few.
local function note_round_trip(rtt)
  if state.rtt_n >= rules.enough and now - state.rtt_at >= rules.stretch then
    state.rtt_old, state.rtt_new, state.rtt_n, state.rtt_at = state.rtt_new, rtt, 0, now
  end
  if state.rtt_n == 0 and state.rtt_old == 0 then state.rtt_at, state.rtt_new = now, rtt end
  state.rtt_n = state.rtt_n + 1
  state.rtt_new = math.min(state.rtt_new, rtt)
  state.rtt = state.rtt == 0 and rtt or math.floor(state.rtt + (rtt - state.rtt) / 16)
end

-- How much earlier than one window after the answer a permit may be free: what surely passes between its release and
-- the next call's arrival, plus what surely passed between this call's arrival and its answer.
local function credit(answer, factor)
  if shortest() == 0 then return 0 end
  local sure = factor * shortest()
  if answer.excess then sure = math.max(sure, answer.excess + sure - rules.margin) end
  return math.max(0, math.min(sure, answer.rtt))
end

-- Brings a permit's release forward; one more millisecond because moments are whole ones.
local function free_after(key, answer, window, factor, flag)
  local moment = math.ceil(latest - answer.age + window - math.min(credit(answer, factor), window / 2)) + 1
  if flag then
    call('ZADD', key, flag, moment, answer.id)
  else
    call('ZADD', key, moment, answer.id)
    keep(key, moment)
  end
end

-- Counts an answer towards the ban of this address, and stops lanes while there are too many.
local function count_invalid()
  local minute = math.floor(now / 60000)
  call('HINCRBY', egress, 'm' .. minute, 1)
  local counts, sum = {}, 0
  local all = call('HGETALL', egress)
  for i = 1, #all, 2 do
    local at = tonumber(string.match(all[i], '^m(%d+)$'))
    if at and at <= minute - rules.invalid_minutes then
      call('HDEL', egress, all[i])
    elseif at then
      counts[#counts + 1] = {at, tonumber(all[i + 1])}
      sum = sum + tonumber(all[i + 1])
    end
  end
  table.sort(counts, function(a, b) return a[1] < b[1] end)
  for _, entry in ipairs(counts) do
    local forgotten = (entry[1] + rules.invalid_minutes) * 60000
    if sum >= rules.stop_bulk then
      call('HSET', egress, 'bulk', forgotten)
      state.stopped = math.max(state.stopped, forgotten)
    end
    if sum >= rules.stop_all then call('HSET', egress, 'all', forgotten) end
    sum = sum - entry[2]
  end
  call('PEXPIRE', egress, DAY)
end

-- Discord's global 429: everybody stops at once. We had counted on room, so somebody else uses our token: leave more to
-- him, and more still if that was not enough.
local function stop_all(answer)
  if now >= state.pause then
    local since = now - state.fewer_at
    local step = since < 60000 and rules.capacity / 5 or rules.capacity / 10
    local before = math.max(0, state.fewer - math.floor(since / rules.forget))
    state.fewer = math.min(math.floor(rules.capacity / 2), before + math.ceil(step))
    state.fewer_at = now
  end
  state.pause = math.max(state.pause, latest + answer.pause)
  state.ramp = state.pause
end

local function obey(answer, user, target)
  local moment = latest + (answer.pause or 0)
  if answer.scope == 'global' and answer.owner == '' then
    stop_all(answer)
  elseif answer.scope == 'global' then
    pause(user, '!', moment)
  elseif answer.scope == 'route' then
    pause(target, '!', moment)
  elseif answer.scope == 'shared' then
    pause(target, '!shared', moment)
  elseif answer.scope == 'edge' then
    call('HSET', egress, 'edge', math.max(moment, tonumber(call('HGET', egress, 'edge') or 0)))
    call('PEXPIRE', egress, DAY)
    state.stopped = math.max(state.stopped, moment)
  end
end

local function give_back(answer, ...)
  for _, key in ipairs({ledger, ...}) do call('ZREM', key, answer.id) end
  if answer.lane > 1 then state.pace = state.pace - rules.window / rules.capacity end
  return {0, answer.known, 0}
end

-- user: the user's ledger; route: the route's as taken; whole, part: the bucket's for all guilds, and for this one.
local function settle(answer, user, route, whole, part)
  if answer.unsent then return give_back(answer, user, route, part) end
  note_round_trip(answer.rtt)
  free_after(ledger, answer, rules.window, rules.global_credit, 'XX')
  free_after(user, answer, rules.user_window, rules.user_credit, 'XX')
  local value, window = learn(answer)
  local target, others = route, 0
  free_after(route, answer, answer.bucket and window or answer.window, rules.user_credit, 'XX')
  if answer.bucket then
    local split = string.sub(value, -1) == '1'
    target = split and part or whole
    if part ~= route then free_after(part, answer, window, rules.user_credit) end
    if not split and whole ~= route then free_after(whole, answer, window, rules.user_credit) end
    others = strangers(answer, target)
  elseif part ~= route then
    free_after(part, answer, answer.window, rules.user_credit, 'XX')
  end
  if answer.scope then obey(answer, user, target) end
  if answer.invalid then count_invalid() end
  return {others, value, math.floor(credit(answer, rules.global_credit))}
end
