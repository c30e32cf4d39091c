-- ARGV: parcel id, token, attempts that stay spent or '' for all of them, error or ''. Returns 1, or 0 for anybody but the holder.
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
redis.call('HSET', parcel, 'token', '')
if ARGV[3] ~= '' then redis.call('HSET', parcel, 'attempts', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('HSET', parcel, 'error', ARGV[4]) end
redis.call('ZREM', P .. ':held', ARGV[1])
redis.call('ZADD', P .. ':waiting', redis.call('HGET', parcel, 'published_at'), ARGV[1])
return 1
