-- ARGV: parcel id, token, attempts already spent by the parts, then (part id, items, their tokens, body, its bytes in
--       memory, its shares)...
-- Returns 1, or 0 for anybody but the holder.
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
local owner, now, parts = redis.call('HMGET', parcel, 'job', 'model', 'collection', 'found', 'begun'), now_us(), 0
drop_parcel(ARGV[1])
for i = 4, #ARGV, 6 do
  store_parcel(ARGV[i], owner[1], owner[2], owner[3], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], ARGV[i + 4],
    ARGV[3], ARGV[i + 5], now)
  if owner[4] then redis.call('HSET', P .. ':parcel:' .. ARGV[i], 'found', owner[4]) end
  if owner[5] then redis.call('HSET', P .. ':parcel:' .. ARGV[i], 'begun', owner[5]) end
  parts = parts + 1
end
count_done(owner[1], 1 - parts, now, {}, 1, 0)
return 1
