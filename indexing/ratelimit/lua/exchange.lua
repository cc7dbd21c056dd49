-- Last part: goes through what is said, settlements first, because they bring permits back.
local position = 10
local function key()
  position = position + 1
  return KEYS[position]
end

local replies = {{}, {}}
for i, answer in ipairs(said.settle) do
  replies[1][i] = settle(answer, key(), key(), key(), key())
end
for i, ask in ipairs(said.ask) do
  local user = {
    key = key(), line = key(), name = 'user', why = 'used up',
    capacity = ask.user == '' and 0 or rules.user_capacity, window = rules.user_window,
  }
  local route = {
    key = key(), line = key(), part = key(), name = 'route', why = 'used up',
    capacity = ask.capacity, window = ask.window, label = ask.label, unproven = ask.unproven,
  }
  if ask.known == '' then route.why, route.lost = 'probe', rules.unseen end
  replies[2][i] = acquire(ask, user, route)
end
save()
return {now, shown, state.born, believed and state.era or 0, replies[1], replies[2]}
