-- ARGV: job id. From now on it takes no more, and nothing of it is given to anybody but what has been begun to be written; its other
-- waiting parcels are discarded one by one (discard.lua), since there may be thousands. Returns 1, or 0 where it is unknown or over.
also_when_memory_is_full()
local job, now = P .. ':job:' .. ARGV[1], now_us()
if redis.call('EXISTS', job) == 0 or redis.call('HEXISTS', job, 'finished_at') == 1 then return 0 end
redis.call('HSET', job, 'cancelled_at', whole(now), 'closed', 1)
pause_no_more(ARGV[1])
redis.call('ZREM', P .. ':open', ARGV[1])
redis.call('SADD', P .. ':cancelling', ARGV[1])
realign_all(ARGV[1], now)
settle(ARGV[1], now)
return 1
