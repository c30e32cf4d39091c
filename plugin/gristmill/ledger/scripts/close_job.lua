-- ARGV: job id, rejected, time to live of a finished job in seconds.
local job = P .. ':job:' .. ARGV[1]
if redis.call('EXISTS', job) == 0 then return 0 end
redis.call('HSET', job, 'closed', 1, 'rejected', ARGV[2])
settle(job, ARGV[3], now_us())
return 1
