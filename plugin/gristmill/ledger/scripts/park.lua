-- ARGV: parcel id, token, then its letter as in finish.lua. For bytes that are no parcel: they are kept with the letter, for
-- whoever wants to know what was written over it, and all items are counted as dead.
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
local kept, now = redis.call('HMGET', parcel, 'job', 'items', 'body'), now_us()
drop_parcel(ARGV[1])
store_letter(now, ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
redis.call('HSET', P .. ':letter:' .. ARGV[3], 'raw', kept[3], 'parcel', ARGV[1])
redis.call('HINCRBY', P .. ':letter:' .. ARGV[3], 'bytes', allocated(#kept[3]))
redis.call('HINCRBY', P .. ':load', 'dead_bytes', allocated(#kept[3]))
redis.call('ZADD', P .. ':unreadable', whole(now), ARGV[1])
count_done(kept[1], 1, now, {'dead', kept[2]}, 1, 2)
return 1
