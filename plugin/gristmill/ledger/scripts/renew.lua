-- ARGV: lease in microseconds, then parcel id and token in turn.
local lease_end = string.format('%.0f', now_us() + ARGV[1])
for i = 2, #ARGV, 2 do
  if holds(P .. ':parcel:' .. ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', P .. ':held', lease_end, ARGV[i])
  end
end
return 1
