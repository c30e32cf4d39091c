-- ARGV: lease in microseconds, then parcel id, token, documents and tokens encoded so far, in turn.
also_when_memory_is_full()
local lease_end = whole(now_us() + ARGV[1])
for i = 2, #ARGV, 4 do
  local parcel = P .. ':parcel:' .. ARGV[i]
  if holds(parcel, ARGV[i + 1]) then
    redis.call('ZADD', P .. ':held:' .. redis.call('HGET', parcel, 'model'), lease_end, ARGV[i])
    note_encoded(parcel, ARGV[i + 2], ARGV[i + 3])
  end
end
return 1
