-- ARGV: model, collections to look at. Returns how many of its parcels could be claimed now; of collections beyond so many,
-- one each.
local now, limit = whole(now_us()), tonumber(ARGV[2])
local turns = P .. ':turns:' .. ARGV[1]
local count = redis.call('ZCOUNT', P .. ':held:' .. ARGV[1], '-inf', now)
for _, collection in ipairs(redis.call('ZRANGEBYSCORE', turns, '-inf', now, 'LIMIT', 0, limit)) do
  count = count + redis.call('ZCOUNT', P .. ':waiting:' .. ARGV[1] .. ':' .. collection, '-inf', now)
end
return count + math.max(0, redis.call('ZCOUNT', turns, '-inf', now) - limit)
