-- ARGV: limit. Returns {parcel id, queue, published_at, '1' if its holder let the lease run out}... : lapsed ones first,
-- then those that wait, oldest first. Two indexes, so that a long backlog cannot hide what a killed worker held.
local found = {}

local function collect(index, lapsed)
  local key = P .. ':' .. index
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', string.format('%.0f', now_us()), 'LIMIT', 0, ARGV[1])) do
    local parcel = redis.call('HMGET', P .. ':parcel:' .. id, 'queue', 'published_at')
    if parcel[1] then
      for _, value in ipairs({id, parcel[1], parcel[2], lapsed}) do found[#found + 1] = value end
    else
      redis.call('ZREM', key, id)
    end
  end
end

collect('held', '1')
collect('waiting', '0')
return found
