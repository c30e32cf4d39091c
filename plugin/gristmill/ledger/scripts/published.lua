-- ARGV: parcel ids. Skips those that somebody has claimed since; ends claims whose lease is over, so that each lapse
-- is published once and not at every look.
local now = now_us()
local stamp = string.format('%.0f', now)
for _, id in ipairs(ARGV) do
  local parcel = P .. ':parcel:' .. id
  local lease_end = tonumber(redis.call('ZSCORE', P .. ':held', id) or '0')
  if lease_end <= now and redis.call('EXISTS', parcel) == 1 then
    redis.call('HSET', parcel, 'published_at', stamp, 'token', '')
    redis.call('ZREM', P .. ':held', id)
    redis.call('ZADD', P .. ':waiting', stamp, id)
  end
end
return 1
