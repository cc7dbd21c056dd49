-- Say how the budgets stand, changing nothing.
--
-- KEYS 1..7 as in ledger.lua   8.. budgets (zset)
-- ARGV 1 JSON: now (ms, for tests; else TIME)
-- Reply: JSON with now, hold_until, pause_until, egress_until (ms, 0 for none), invalid (answers in 10 minutes),
--        learned {route: text}, budgets: [[used, ms until the next one frees, ms it is paused], ...], the global one first.
local ask = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = ask.now or (clock[1] * 1000 + math.floor(clock[2] / 1000))
local meta = redis.call('HMGET', KEYS[1], 'hold_until', 'pause_until', 'egress_until', 'last')
now = math.max(now, tonumber(meta[4] or 0) or 0)
local reply = {
  now = now,
  hold_until = tonumber(meta[1] or 0) or 0,
  pause_until = tonumber(meta[2] or 0) or 0,
  egress_until = tonumber(meta[3] or 0) or 0,
  invalid = 0,
  learned = {},
  budgets = {},
}
local minutes = redis.call('HGETALL', KEYS[6])
for i = 1, #minutes, 2 do
  if tonumber(minutes[i]) > math.floor(now / 60000) - 10 then reply.invalid = reply.invalid + tonumber(minutes[i + 1]) end
end
local learned = redis.call('HGETALL', KEYS[5])
for i = 1, #learned, 2 do reply.learned[learned[i]] = learned[i + 1] end
reply.learned['_'] = ''
for i = 7, #KEYS do
  local used = redis.call('ZCOUNT', KEYS[i], '(' .. string.format('%.0f', now), '+inf')
  local first = redis.call('ZRANGEBYSCORE', KEYS[i], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local paused = tonumber(redis.call('ZSCORE', KEYS[i], 'z') or 0) or 0
  reply.budgets[i - 6] = { used, first[2] and math.ceil(tonumber(first[2]) - now) or 0, math.max(0, math.ceil(paused - now)) }
end
return cjson.encode(reply)
