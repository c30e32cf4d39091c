-- ARGV: job id. From now on nothing of it is given to anybody, and it takes no more; its waiting parcels are discarded one by one
-- (discard.lua), since there may be thousands. Returns 1, or 0 where it is unknown or over.
also_when_memory_is_full()
local job = P .. ':job:' .. ARGV[1]
if redis.call('EXISTS', job) == 0 or redis.call('HEXISTS', job, 'finished_at') == 1 then return 0 end
redis.call('HSET', job, 'cancelled_at', whole(now_us()), 'closed', 1)
pause_no_more(ARGV[1])
redis.call('ZREM', P .. ':open', ARGV[1])
redis.call('SADD', P .. ':cancelling', ARGV[1])
settle(ARGV[1], now_us())
return 1
