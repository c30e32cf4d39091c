-- ARGV: parcel id, token, time to live of a finished job in seconds, letter id, letter's JSON. For bytes that are no parcel:
-- they are kept aside for whoever wants to know what was written over it, and all items are counted as dead.
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
local kept, now = redis.call('HMGET', parcel, 'job', 'items', 'body'), now_us()
local job = P .. ':job:' .. kept[1]
drop_parcel(ARGV[1])
redis.call('HSET', P .. ':unreadable', ARGV[1], kept[3])
redis.call('HSET', P .. ':letters', ARGV[4], ARGV[5])
redis.call('ZADD', P .. ':dead', whole(now), ARGV[4])
if redis.call('EXISTS', job) == 1 then
  redis.call('HINCRBY', job, 'dead', kept[2])
  redis.call('HINCRBY', job, 'open', -1)
  settle(job, ARGV[3], now)
end
return 1
