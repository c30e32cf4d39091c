-- ARGV: parcel id, token, point ids with blanks between them. Returns 1, or 0 for anybody but the holder.
also_when_memory_is_full()
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
redis.call('HSET', parcel, 'found', ARGV[3])
return 1
