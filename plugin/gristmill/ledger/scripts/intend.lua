-- Notes with the parcel, too, that it is being written: half of a document would stay if it were cancelled from now on.
-- ARGV: token, JSON, time to live in seconds, how many are kept, parcel id. Returns 1, or 0 for anybody but the holder.
also_when_memory_is_full()
if not holds(P .. ':parcel:' .. ARGV[5], ARGV[1]) then return 0 end
local now, index = now_us(), P .. ':intents'
redis.call('HSET', P .. ':parcel:' .. ARGV[5], 'begun', whole(now))
redis.call('SET', P .. ':intent:' .. ARGV[1], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', index, whole(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', index, '-inf', whole(now - ARGV[3] * 1000000))
redis.call('ZREMRANGEBYRANK', index, 0, -ARGV[4] - 1)
redis.call('EXPIRE', index, ARGV[3])
return 1
