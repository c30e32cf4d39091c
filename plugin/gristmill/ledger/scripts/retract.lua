-- ARGV: token, its intent as it was read, what is left of it or '', id of the retraction, its JSON, time to live in seconds.
-- Returns 1, or 0 where the intent is over or has changed.
also_when_memory_is_full()
local intent, index = P .. ':intent:' .. ARGV[1], P .. ':retractions'
if redis.call('GET', intent) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('DEL', intent)
  redis.call('ZREM', P .. ':intents', ARGV[1])
else
  redis.call('SET', intent, ARGV[3], 'KEEPTTL')
end
redis.call('SET', P .. ':retraction:' .. ARGV[4], ARGV[5], 'EX', ARGV[6])
redis.call('ZADD', index, whole(now_us()), ARGV[4])
redis.call('ZREMRANGEBYSCORE', index, '-inf', whole(now_us() - ARGV[6] * 1000000))
redis.call('EXPIRE', index, ARGV[6])
return 1
