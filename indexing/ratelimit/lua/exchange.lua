-- Part 7: handles the input, settlements first because they release permits, then saves the state and replies.
local position = 13
local function next_key()
  position = position + 1
  return KEYS[position]
end

local results, decisions = {}, {}
for i, settlement in ipairs(input.settlements) do
  results[i] = settle(settlement, next_key(), next_key(), next_key(), next_key())
end
for i, request in ipairs(input.requests) do
  local user = {
    key = next_key(), queue = next_key(), name = 'user', reason = 'used up',
    capacity = request.charges_user and params.user_capacity or 0, window = params.user_window,
  }
  local route = {
    key = next_key(), queue = next_key(), own_guild = next_key(), name = 'route', reason = 'used up',
    capacity = request.capacity, window = request.window, label = request.label, unproven = request.unproven,
  }
  if request.stored_limit == '' then route.reason, route.probe_window = 'probe', params.probe_window end
  decisions[i] = acquire(request, user, route)
end
save()
return {now, shown, state.born, trusted and state.era or 0, results, decisions}
