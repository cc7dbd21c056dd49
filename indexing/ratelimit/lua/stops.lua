-- Reads what stops the whole fleet, and lifts it. Not part of the script of the budgets; atomic like it.
--
-- KEYS: 1 meta  2 egress  3 repeats, as in state.lua
-- ARGV: 1 "lift" or "read"  2 minutes of the invalid-request limit  3 invalid answers beyond which nothing is lifted
--       4 length of the ramp, milliseconds
-- Reply: {invalid answers that Discord counts now, {name, milliseconds left}, ...}, as before the lift.
--
-- A lift begins the count of invalid answers at zero, or the next one would stop the fleet again. What Discord goes on
-- counting moves from `m<minute>` to `o<minute>`. After a lifted pause one call at a time finds out whether it is over.
local meta, egress, repeats = KEYS[1], KEYS[2], KEYS[3]
local lift, minutes, most, ramp = ARGV[1] == 'lift', tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local call = redis.call

local time, shared = call('TIME'), call('HMGET', meta, 'offset', 'last', 'pause')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)
local now = math.max(wall + (tonumber(shared[1]) or 0), tonumber(shared[2]) or 0)

local found = {}
local function note(name, moment)
  local left = math.ceil((tonumber(moment) or 0) - now)
  if left > 0 then found[#found + 1] = {name, left} end
end
local moments = call('HMGET', egress, 'edge', 'all', 'bulk')
note('pause', shared[3])
note('edge', moments[1])
note('all', moments[2])
note('bulk', moments[3])

local count, entries = 0, call('HGETALL', egress)
for i = 1, #entries, 2 do
  local at = tonumber(string.match(entries[i], '^[mo](%d+)$'))
  if at and at > math.floor(now / 60000) - minutes then count = count + tonumber(entries[i + 1]) end
end

if lift and #found > 0 and count <= most then
  for i = 1, #entries, 2 do
    local kind, minute = string.match(entries[i], '^([mo])(%d+)$')
    if kind == 'm' then
      call('HINCRBY', egress, 'o' .. minute, entries[i + 1])
      call('HDEL', egress, entries[i])
    elseif kind == 'o' and tonumber(minute) <= math.floor(now / 60000) - minutes then
      call('HDEL', egress, entries[i])
    end
  end
  call('HDEL', egress, 'edge', 'all', 'bulk')
  call('ZREM', repeats, 'global', egress)
  if found[1][1] == 'pause' or found[1][1] == 'edge' then
    call('HSET', meta, 'pause', 0, 'ramp', math.ceil(now) + 2 * ramp)
  end
end
return {count, unpack(found)}
