-- ARGV: parcel id, token, number of this attempt, key of the collection that it was accepted for.
-- Returns 0 for anybody but the holder, else 1, or 2 where no deletion is remembered in that collection.
also_when_memory_is_full()
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
redis.call('HSET', parcel, 'attempts', ARGV[3])
return 2 - redis.call('EXISTS', P .. ':tombs:' .. ARGV[4])
