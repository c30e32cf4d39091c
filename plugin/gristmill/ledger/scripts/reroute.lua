-- ARGV: parcel id, token, attempts that stay spent, model, body, its bytes in memory. The parcel waits for another model from now on.
-- Returns 1, or 0 for anybody but the holder.
also_when_memory_is_full()
local parcel, now = P .. ':parcel:' .. ARGV[1], now_us()
if not holds(parcel, ARGV[2]) then return 0 end
local kept = redis.call('HMGET', parcel, 'model', 'collection', 'bytes', 'items', 'job', 'tokens')
redis.call('DEL', P .. ':claim:' .. ARGV[2])
redis.call('ZREM', P .. ':held:' .. kept[1], ARGV[1])
redis.call('HINCRBY', P .. ':load', 'bytes', ARGV[6] - kept[3])
note_encoded(parcel, 0, 0)
count_owed(kept[5], kept[1], -1, -kept[4], -kept[6])
count_owed(kept[5], ARGV[4], 1, kept[4], kept[6])
redis.call('HSET', parcel, 'token', '', 'attempts', ARGV[3], 'model', ARGV[4], 'body', ARGV[5], 'bytes', ARGV[6])
wait_in_line(ARGV[1], kept[5], ARGV[4], kept[2], now, now)
return 1
