-- Part 3: learns route limits from the answers' headers. `learned` maps "<kind> <route>" to
--   "<bucket> <capacity> <window> <per_guild>"
-- bucket '-': answers carry no headers. per_guild 1: answers have proven that guilds have separate buckets.
-- Evidence is kept with a suffix: "... seen" (raise_evidence) and "... first" (proves_per_guild).
-- "... strict": until this moment the limit is that of a 429 with nothing remaining. Headers that name another bucket say
--   nothing about it: some routes name a wide bucket in good answers, and the narrow one only in the 429.
-- Raising a limit (more capacity, shorter window, per guild) needs evidence; lowering it takes effect at once.

-- Counts consecutive answers that show a more generous limit: more calls, or at most half the window. After
-- `raise_after` of them returns the least generous capacity and window. Kept as "<n> <least capacity> <longest window>".
local function raise_evidence(route_key, capacity, window, limit, reset, seen)
  if limit <= capacity and reset > window / 2 then
    if seen then call('HDEL', learned, route_key .. ' seen') end
    return nil
  end
  local n, least, longest = string.match(seen or '', '(%S+) (%S+) (%S+)')
  n, least, longest = (n or 0) + 1, math.min(least or limit, limit), math.max(longest or 0, reset)
  if n < params.raise_after then
    call('HSET', learned, route_key .. ' seen', n .. ' ' .. least .. ' ' .. longest)
    return nil
  end
  call('HDEL', learned, route_key .. ' seen')
  return least, longest
end

-- Two answers for two guilds that both show the first call of a bucket, the second before the first one's reset, prove
-- two buckets.
local function proves_per_guild(answer)
  if answer.major == '' or answer.remaining ~= answer.limit - 1 or answer.limit < 2 then return false end
  local name = answer.route_key .. ' first'
  local major, reset = string.match(call('HGET', learned, name) or '', '(%S+) (%S+)')
  call('HSET', learned, name, answer.major .. ' ' .. math.floor(answer.charged_at + answer.reset))
  return major ~= nil and major ~= answer.major and now < tonumber(reset)
end

local function store_limit(route_key, bucket, capacity, window, per_guild)
  local value = string.format('%s %d %d %d', bucket, capacity, window, per_guild)
  call('HSET', learned, route_key, value)
  call('PEXPIRE', learned, 30 * DAY)
  return value
end

-- Returns the route's stored limit after this answer, its window, and whether the answer was about the same bucket.
local function learn_limit(answer)
  local route_key = answer.route_key
  local known = call('HMGET', learned, route_key, route_key .. ' seen', route_key .. ' strict')
  local value = known[1] or ''
  local bucket, capacity, window, per_guild = string.match(value, '(%S+) (%d+) (%d+) (%d+)')
  capacity, window, per_guild = tonumber(capacity) or 0, tonumber(window) or 0, tonumber(per_guild) or 0
  if not answer.bucket then
    if value == '' and answer.headers_expected then value = store_limit(answer.route_key, '-', 0, 0, 0) end
    return value, window, false
  end
  local strict = now < (tonumber(known[3]) or 0)
  local used_up = answer.scope == 'route' and answer.remaining == 0
  if strict and bucket ~= answer.bucket and not used_up then return value, window, false end
  if used_up then call('HSET', learned, route_key .. ' strict', math.floor(now + params.strict_memory)) end
  local reset = math.min(math.ceil(answer.reset / 100) * 100, params.max_window)
  if bucket ~= answer.bucket then
    call('HDEL', learned, answer.route_key .. ' seen', answer.route_key .. ' first')
    proves_per_guild(answer)
    local limit = answer.limit
    if strict then limit, reset = math.min(capacity, limit), math.max(window, reset) end
    return store_limit(answer.route_key, answer.bucket, limit, reset, 0), reset, true
  end
  local new_capacity, new_window = math.min(capacity, answer.limit), math.max(window, reset)
  local least, longest = raise_evidence(answer.route_key, capacity, window, answer.limit, reset, known[2])
  if least then new_capacity, new_window = least, longest end
  if strict and used_up and answer.stored_limit == value then
    -- The limit was kept and was not strict enough: a 429 shows the rest of a window only.
    new_window = math.max(new_window, math.min(math.ceil(window * 1.25 / 100) * 100, params.strict_window))
  end
  local new_per_guild = per_guild
  if answer.disproves_per_guild then
    new_per_guild = 0
  elseif per_guild == 0 and proves_per_guild(answer) then
    new_per_guild = 1
  end
  if new_capacity ~= capacity or new_window ~= window or new_per_guild ~= per_guild then
    value = store_limit(answer.route_key, bucket, new_capacity, new_window, new_per_guild)
  end
  return value, new_window, true
end

-- Foreign usage: the headers count more calls in this bucket than the fleet holds permits for. Holds permits for them
-- until the reset, and returns how many. Permits that were held when the call was charged count as the fleet's, because
-- they may be released while the answer travels. One call is tolerated, for servers that round.
local function hold_foreign_calls(answer, key)
  local missing = answer.limit - answer.remaining - 1 - answer.held
  if missing <= 0 then return 0 end
  missing = math.min(missing, answer.limit - answer.remaining - 1 - held(key), 50)
  for i = 1, missing do
    call('ZADD', key, latest + answer.reset, answer.id .. '+' .. i)
  end
  if missing > 0 then extend_ttl(key, latest + answer.reset) end
  return math.max(missing, 0)
end
