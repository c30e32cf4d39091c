-- ARGV: parcel id, token, attempts that stay spent or '' for all of them, error or '', delay in microseconds.
-- Returns 1, or 0 for anybody but the holder.
also_when_memory_is_full()
local parcel, now = P .. ':parcel:' .. ARGV[1], now_us()
if not holds(parcel, ARGV[2]) then return 0 end
redis.call('HSET', parcel, 'token', '')
redis.call('DEL', P .. ':claim:' .. ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', parcel, 'attempts', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('HSET', parcel, 'error', ARGV[4]) end
note_encoded(parcel, 0, 0)
local kept = redis.call('HMGET', parcel, 'model', 'collection', 'accepted_at')
local due = tonumber(ARGV[5]) > 0 and now + ARGV[5] or tonumber(kept[3])
redis.call('ZREM', P .. ':held:' .. kept[1], ARGV[1])
wait_in_line(ARGV[1], kept[1], kept[2], due, now)
return 1
