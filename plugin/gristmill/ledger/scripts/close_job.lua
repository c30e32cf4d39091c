-- ARGV: job id, rejected.
also_when_memory_is_full()
redis.call('ZREM', P .. ':open', ARGV[1])
local job = P .. ':job:' .. ARGV[1]
if redis.call('EXISTS', job) == 0 then return 0 end
redis.call('HSET', job, 'closed', 1, 'rejected', ARGV[2])
redis.call('HDEL', job, 'abandoned')
settle(ARGV[1], now_us())
return 1
