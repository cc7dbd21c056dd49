-- Part 4: settles a permit. Replies {foreign calls, stored limit of the route, for how long it stops the caller that
-- brought the token}.
-- `repeats` maps a route's label, "global", "user <id>" or the key of an address to the moment until which it waits after
-- a 429, plus the number of such waits in a row in units of 1/COUNTS.

local COUNTS = 1024

-- Returns the moment until which a name of `repeats` waits, 0 when it does not.
local function repeated_until(name)
  return math.floor(tonumber(call('ZSCORE', repeats, name) or 0))
end

-- Measures the fleet's shortest round trip in this period and the previous one. A period lasts at least
-- `round_trip_period` and `round_trip_samples` answers, so that it never rests on a few answers.
local function note_round_trip(rtt)
  if state.rtt_n >= params.round_trip_samples and now - state.rtt_at >= params.round_trip_period then
    state.rtt_old, state.rtt_new, state.rtt_n, state.rtt_at = state.rtt_new, rtt, 0, now
  end
  if state.rtt_n == 0 and state.rtt_old == 0 then state.rtt_at, state.rtt_new = now, rtt end
  state.rtt_n = state.rtt_n + 1
  state.rtt_new = math.min(state.rtt_new, rtt)
  state.rtt = state.rtt == 0 and rtt or math.floor(state.rtt + (rtt - state.rtt) / 16)
end

-- Returns how much earlier than one window after its answer a permit is free: a share of the shortest round trip.
-- limits.py states what a credit assumes.
local function credit(answer, share)
  return math.min(share * shortest_round_trip(), answer.round_trip)
end

-- Brings a permit's release forward; one more millisecond because moments are whole ones.
local function release_after(key, answer, window, share, flag)
  local moment = math.ceil(latest - answer.age + window - math.min(credit(answer, share), window / 2)) + 1
  if flag then
    call('ZADD', key, flag, moment, answer.id)
  else
    call('ZADD', key, moment, answer.id)
    extend_ttl(key, moment)
  end
end

-- Counts an answer in this minute's field of a kind: 'm' for all, or 'c' for those of a caller, whose name follows.
-- Returns a function of a number of answers: when so many are not counted any more, nil if so many are not now.
local function count_answer(kind, name)
  local minute = math.floor(now / 60000)
  call('HINCRBY', egress, kind .. minute .. name, 1)
  local counts, sum = {}, 0
  local all = call('HGETALL', egress)
  for i = 1, #all, 2 do
    local found, at, rest = string.match(all[i], '^([mc])(%d+)(.*)$')
    at = tonumber(at)
    if at and at <= minute - params.invalid_minutes then
      call('HDEL', egress, all[i])
    elseif at and found == kind and rest == name then
      counts[#counts + 1] = {at, tonumber(all[i + 1])}
      sum = sum + tonumber(all[i + 1])
    end
  end
  table.sort(counts, function(a, b) return a[1] < b[1] end)
  call('PEXPIRE', egress, DAY)
  return function(most)
    local left, moment = sum, nil
    for _, entry in ipairs(counts) do
      if left >= most then moment = (entry[1] + params.invalid_minutes) * 60000 end
      left = left - entry[2]
    end
    return moment
  end
end

-- Counts an answer towards the invalid-request limit of this address, and stops lanes while there are too many.
local function count_invalid()
  local fewer_than = count_answer('m', '')
  local bulk, all = fewer_than(params.stop_bulk), fewer_than(params.stop_all)
  if bulk then
    call('HSET', egress, 'bulk', bulk)
    state.stopped = math.max(state.stopped, bulk)
  end
  if all then call('HSET', egress, 'all', all) end
end

-- Counts a refused token for the caller that brought it, and stops the calls with its tokens while there are too many.
-- Returns for how long, 0 if the caller is not stopped or was stopped before.
local function count_refused(caller)
  local moment = count_answer('c', ' ' .. caller)(params.stop_caller)
  if not moment then return 0 end
  local before = tonumber(call('HGET', egress, 'stop ' .. caller) or 0)
  call('HSET', egress, 'stop ' .. caller, moment)
  state.stopped = math.max(state.stopped, moment)
  return before > now and 0 or math.ceil(moment - now)
end

-- A global 429 of the bot's token stops the whole fleet. The ledger had room for the call, so there is foreign usage of
-- the token: leaves permits to it, and more if the previous number was not enough.
local function pause_token(moment, probe)
  if now >= state.pause then
    local since = now - state.fewer_at
    local step = since < 60000 and params.global_capacity / 5 or params.global_capacity / 10
    local before = math.max(0, state.fewer - math.floor(since / params.foreign_decay))
    state.fewer = math.min(math.floor(params.global_capacity / 2), before + math.ceil(step))
    state.fewer_at = now
  end
  state.pause = math.max(state.pause, moment)
  -- More than one ramp before this moment the capacity is one permit.
  state.ramp = math.max(state.ramp, state.pause + (probe and 2 * params.ramp or 0))
end

-- Returns for how long a 429 pauses what it names: what it says, but after one that came in spite of such a wait at
-- least twice as long each time, up to `max_pause`. Answers to calls that were charged before the wait do not count.
-- Also returns whether a single call should find out first if the limit is over.
local function grow_pause(answer, name)
  call('ZREMRANGEBYSCORE', repeats, '-inf', now - params.repeat_memory)
  local known = tonumber(call('ZSCORE', repeats, name) or 0)
  local moment = math.floor(known)
  local n = math.floor((known - moment) * COUNTS + 0.5)
  if answer.charged_at >= moment then n = math.min(n + 1, 20) end
  local first = answer.scope == 'edge' and answer.pause or params.first_pause
  local pause = answer.pause
  if n > 1 then pause = math.max(pause, math.min(first * 2 ^ (n - 1), params.max_pause)) end
  moment = math.max(moment, math.ceil(latest + pause))
  call('ZADD', repeats, moment + n / COUNTS, name)
  extend_ttl(repeats, moment + params.repeat_memory)
  state.repeated = math.max(state.repeated, moment + params.repeat_memory)
  return pause, pause >= params.max_pause
end

-- Forgets 429s of what has answered well since.
local function forget_repeats(answer)
  local token = answer.token_owner == '' and 'global' or 'user ' .. answer.token_owner
  for _, name in ipairs({answer.label, token, egress}) do
    local known = tonumber(call('ZSCORE', repeats, name))
    if known and answer.charged_at >= math.floor(known) then call('ZREM', repeats, name) end
  end
end

-- Leaves one permit for some seconds after a pause: its call finds out whether the limit is over.
local function leave_one(answer, key, capacity, moment)
  local free = moment + 2 * params.ramp
  for i = 1, math.min(capacity, 50) - 1 do
    call('ZADD', key, free, answer.id .. '-' .. i)
  end
  extend_ttl(key, free)
end

-- capacity: of the target.
local function apply_pause(answer, user, target, capacity)
  local name = answer.label
  if answer.scope == 'edge' then
    name = egress
  elseif answer.scope == 'global' then
    name = answer.token_owner == '' and 'global' or 'user ' .. answer.token_owner
  end
  local pause_length, probe = grow_pause(answer, name)
  local grown = latest + pause_length
  -- Repetition concerns this guild; others that share the bucket wait for what the answer says.
  local moment = latest + answer.pause
  if answer.scope == 'global' and answer.token_owner == '' then
    pause_token(grown, probe)
  elseif answer.scope == 'global' then
    pause(user, '!', grown)
    if probe then leave_one(answer, user, params.user_capacity, grown) end
  elseif answer.scope == 'route' then
    pause(target, '!', moment)
    if answer.clipped then leave_one(answer, target, capacity, moment) end
  elseif answer.scope == 'shared' then
    pause(target, '!shared', moment)
    if answer.clipped then leave_one(answer, target, capacity, moment) end
  elseif answer.scope == 'edge' then
    call('HSET', egress, 'edge', math.max(grown, tonumber(call('HGET', egress, 'edge') or 0)))
    call('PEXPIRE', egress, DAY)
    state.stopped = math.max(state.stopped, grown)
    state.ramp = math.max(state.ramp, grown + 2 * params.ramp)
  end
end

local function give_back(answer, ...)
  -- A permit that the global budget does not hold was not paced.
  local paced = call('ZREM', ledger, answer.id) == 1 and answer.lane > 1
  for _, key in ipairs({...}) do call('ZREM', key, answer.id) end
  if paced then state.pace = state.pace - params.global_window / params.global_capacity end
  return {0, answer.stored_limit, 0}
end

-- user, route: the ledgers that the permit was charged to; all_guilds, own_guild: those of the bucket that the headers
-- name, for all guilds together and for this one.
local function settle(answer, user, route, all_guilds, own_guild)
  if answer.unsent then return give_back(answer, user, route, own_guild) end
  note_round_trip(answer.round_trip)
  release_after(ledger, answer, params.global_window, params.global_credit, 'XX')
  release_after(user, answer, params.user_window, params.user_credit, 'XX')
  local value, window, same_bucket = learn_limit(answer)
  local target, foreign_calls = route, 0
  release_after(route, answer, answer.bucket and window or answer.window, params.user_credit, 'XX')
  if same_bucket then
    local per_guild = string.sub(value, -1) == '1'
    target = per_guild and own_guild or all_guilds
    if own_guild ~= route then release_after(own_guild, answer, window, params.user_credit) end
    if not per_guild and all_guilds ~= route then release_after(all_guilds, answer, window, params.user_credit) end
    foreign_calls = hold_foreign_calls(answer, target)
  elseif own_guild ~= route then
    release_after(own_guild, answer, answer.window, params.user_credit, 'XX')
  end
  if answer.scope then
    apply_pause(answer, user, target, tonumber(string.match(value, '%S+ (%d+)')) or 0)
  elseif answer.headers_expected and now < state.repeated then
    forget_repeats(answer)
  end
  if answer.invalid then count_invalid() end
  return {foreign_calls, value, answer.refused_of ~= '' and count_refused(answer.refused_of) or 0}
end
