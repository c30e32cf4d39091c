-- ARGV: worker id, JSON of its status, time to live in milliseconds.
also_when_memory_is_full()
local now, index = now_us(), P .. ':workers'
redis.call('SET', P .. ':worker:' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZREMRANGEBYSCORE', index, '-inf', whole(now))
redis.call('ZADD', index, whole(now + ARGV[3] * 1000), ARGV[1])
redis.call('PEXPIRE', index, math.max(tonumber(ARGV[3]), redis.call('PTTL', index)))
return 1
