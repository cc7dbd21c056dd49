-- What the answers' headers teach about a route's budget. `learned` maps "<kind> <route>" to
--   "<bucket> <capacity> <window> <split>"
-- bucket '-' means that answers carry no headers. split 1: guilds are proven to have budgets of their own.
-- Raising a limit (more capacity, shorter window, split) needs evidence; lowering it takes effect at once.

-- Answers in a row that all show a more generous limit: more calls, or at most half the window. Returns the least
-- generous of them when `agree` have come: capacity and window. Kept as "<n> <smallest capacity> <longest window>".
local function agreed(field, capacity, window, limit, reset, seen)
  if limit <= capacity and reset > window / 2 then
    if seen then call('HDEL', learned, field .. ' seen') end
    return nil
  end
  local n, least, longest = string.match(seen or '', '(%S+) (%S+) (%S+)')
  n, least, longest = (n or 0) + 1, math.min(least or limit, limit), math.max(longest or 0, reset)
  if n < rules.agree then
    call('HSET', learned, field .. ' seen', n .. ' ' .. least .. ' ' .. longest)
    return nil
  end
  call('HDEL', learned, field .. ' seen')
  return least, longest
end

-- Two answers that both say "first of this bucket" for two guilds, the second before the first one's reset: two buckets.
local function proves_split(answer)
  if answer.major == '' or answer.remaining ~= answer.limit - 1 or answer.limit < 2 then return false end
  local name = answer.field .. ' first'
  local major, reset = string.match(call('HGET', learned, name) or '', '(%S+) (%S+)')
  call('HSET', learned, name, answer.major .. ' ' .. math.floor(answer.taken + answer.reset))
  return major ~= nil and major ~= answer.major and now < tonumber(reset)
end

local function store(field, bucket, capacity, window, split)
  local value = string.format('%s %d %d %d', bucket, capacity, window, split)
  call('HSET', learned, field, value)
  call('PEXPIRE', learned, 30 * DAY)
  return value
end

-- Returns the route's value after this answer, and its window.
local function learn(answer)
  local known = call('HMGET', learned, answer.field, answer.field .. ' seen')
  local value = known[1] or ''
  local bucket, capacity, window, split = string.match(value, '(%S+) (%d+) (%d+) (%d+)')
  capacity, window, split = tonumber(capacity) or 0, tonumber(window) or 0, tonumber(split) or 0
  if not answer.bucket then
    if value == '' and answer.proper then value = store(answer.field, '-', 0, 0, 0) end
    return value, window
  end
  local reset = math.min(math.ceil(answer.reset / 100) * 100, rules.longest)
  if bucket ~= answer.bucket then
    call('HDEL', learned, answer.field .. ' seen', answer.field .. ' first')
    proves_split(answer)
    return store(answer.field, answer.bucket, answer.limit, reset, 0), reset
  end
  local new_capacity, new_window = math.min(capacity, answer.limit), math.max(window, reset)
  local least, longest = agreed(answer.field, capacity, window, answer.limit, reset, known[2])
  if least then new_capacity, new_window = least, longest end
  local new_split = split
  if answer.unsplit then new_split = 0 elseif split == 0 and proves_split(answer) then new_split = 1 end
  if new_capacity ~= capacity or new_window ~= window or new_split ~= split then
    value = store(answer.field, bucket, new_capacity, new_window, new_split)
  end
  return value, new_window
end

-- The server says fewer are left than we know of: somebody else uses this bucket. His calls are held like ours until
-- the reset. Returns how many. What was held when the call went counts too: it may have come back while the answer was
-- on its way. One is let pass, for servers that round.
local function strangers(answer, key)
  local missing = answer.limit - answer.remaining - 1 - answer.held
  if missing <= 0 then return 0 end
  missing = math.min(missing, answer.limit - answer.remaining - 1 - held(key), 50)
  for i = 1, missing do
    call('ZADD', key, latest + answer.reset, answer.id .. '+' .. i)
  end
  if missing > 0 then keep(key, latest + answer.reset) end
  return math.max(missing, 0)
end
