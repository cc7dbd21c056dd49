-- Take the right to identify one session, or tell how long to wait.
-- KEYS 1 zset: identifies of the last day, by when they no longer count (ms)
--      2 zset: the same of one concurrency key and its window
--      3 string: until when nothing is granted after the state was lost (ms)
-- ARGV 1 name of the identify  2 identifies a day  3 day in ms  4 ms for which the key is held  5 hold in ms
-- Reply: 0 if it was taken, else the wait in ms. Atomic.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], now + ARGV[5], 'NX')
local held = tonumber(redis.call('GET', KEYS[3])) - now
if held > 0 then
  return math.min(held, tonumber(ARGV[5]))
end
for index = 1, 2 do
  redis.call('ZREMRANGEBYSCORE', KEYS[index], '-inf', now)
end
local limits = {tonumber(ARGV[2]), 1}
for index = 1, 2 do
  if redis.call('ZCARD', KEYS[index]) >= limits[index] then
    local first = redis.call('ZRANGE', KEYS[index], 0, 0, 'WITHSCORES')
    return math.max(1, first[2] - now)
  end
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 0
