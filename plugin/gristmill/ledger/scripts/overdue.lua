-- ARGV: queue, limit. Returns {parcel id, published_at, '1' if its holder let the lease run out}... : up to `limit` lapsed
-- ones, then up to `limit` that wait, oldest first. Two indexes, so that a long backlog cannot hide what a killed worker
-- held; and other queues are passed over, so that the backlog of a model without workers cannot hide what another lost.
local found, limit, now = {}, tonumber(ARGV[2]), string.format('%.0f', now_us())

local function collect(index, lapsed)
  local key, offset, count = P .. ':' .. index, 0, 0
  repeat
    local ids = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', offset, limit)
    offset = offset + #ids
    for _, id in ipairs(ids) do
      local parcel = redis.call('HMGET', P .. ':parcel:' .. id, 'queue', 'published_at')
      if not parcel[1] then
        redis.call('ZREM', key, id)
        offset = offset - 1
      elseif parcel[1] == ARGV[1] and count < limit then
        for _, value in ipairs({id, parcel[2], lapsed}) do found[#found + 1] = value end
        count = count + 1
      end
    end
  until #ids < limit or count == limit
end

collect('held', '1')
collect('waiting', '0')
return found
