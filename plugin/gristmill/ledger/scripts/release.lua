-- ARGV: parcel id, token, attempts that stay spent or '' for all of them, error or '', delay in microseconds.
-- Returns 1, or 0 for anybody but the holder.
also_when_memory_is_full()
local parcel, now = P .. ':parcel:' .. ARGV[1], now_us()
if not holds(parcel, ARGV[2]) then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', parcel, 'attempts', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('HSET', parcel, 'error', ARGV[4]) end
give_back(ARGV[1], tonumber(ARGV[5]) > 0 and now + ARGV[5] or tonumber(redis.call('HGET', parcel, 'accepted_at')), now)
return 1
