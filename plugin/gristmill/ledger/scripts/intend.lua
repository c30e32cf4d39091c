-- ARGV: token, JSON, time to live in seconds, how many are kept.
also_when_memory_is_full()
local now, index = now_us(), P .. ':intents'
redis.call('SET', P .. ':intent:' .. ARGV[1], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', index, whole(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', index, '-inf', whole(now - ARGV[3] * 1000000))
redis.call('ZREMRANGEBYRANK', index, 0, -ARGV[4] - 1)
redis.call('EXPIRE', index, ARGV[3])
return 1
