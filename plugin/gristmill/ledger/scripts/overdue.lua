-- ARGV: limit. Returns {parcel id, queue, published_at, '1' if a holder let its lease run out}... , oldest first.
local found = {}
local now = string.format('%.0f', now_us())
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':pending', '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local parcel = redis.call('HMGET', P .. ':parcel:' .. id, 'queue', 'published_at', 'token')
  if parcel[1] then
    for _, value in ipairs({id, parcel[1], parcel[2], parcel[3] ~= '' and '1' or '0'}) do found[#found + 1] = value end
  else
    redis.call('ZREM', P .. ':pending', id)
  end
end
return found
