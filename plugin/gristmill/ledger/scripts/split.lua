-- ARGV: parcel id, token, attempts already spent by the parts, then (part id, items, body)...
-- Returns 1, or 0 for anybody but the holder.
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
local owner = redis.call('HMGET', parcel, 'job', 'model', 'collection')
drop_parcel(ARGV[1])
local now, parts = now_us(), 0
for i = 4, #ARGV, 3 do
  store_parcel(ARGV[i], owner[1], owner[2], owner[3], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[3], now)
  parts = parts + 1
end
-- A job that was forgotten must not come back as a ghost (see finish.lua).
local job = P .. ':job:' .. owner[1]
if redis.call('EXISTS', job) == 1 then redis.call('HINCRBY', job, 'open', parts - 1) end
return 1
