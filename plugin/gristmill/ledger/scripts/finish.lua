-- ARGV: parcel id, token, time to live of a finished job in seconds, number of counters, (counter, amount)...,
--       then (letter id, JSON)... Returns 1, or 0 for anybody but the holder.
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
local job = P .. ':job:' .. redis.call('HGET', parcel, 'job')
drop_parcel(ARGV[1])
local now = now_us()
local last = 4 + 2 * ARGV[4]
for i = last + 1, #ARGV, 2 do
  redis.call('HSET', P .. ':letters', ARGV[i], ARGV[i + 1])
  redis.call('ZADD', P .. ':dead', whole(now), ARGV[i])
end
-- A job that was forgotten (flushed, expired by hand) must not come back as a half-filled ghost.
if redis.call('EXISTS', job) == 1 then
  for i = 5, last, 2 do redis.call('HINCRBY', job, ARGV[i], ARGV[i + 1]) end
  redis.call('HINCRBY', job, 'open', -1)
  settle(job, ARGV[3], now)
end
return 1
