-- ARGV: how many of the oldest to look at. Drops index entries of jobs that Redis has forgotten; returns how many.
local gone = 0
for _, id in ipairs(redis.call('ZRANGE', P .. ':jobs', 0, ARGV[1] - 1)) do
  if redis.call('EXISTS', P .. ':job:' .. id) == 0 then
    redis.call('ZREM', P .. ':jobs', id)
    gone = gone + 1
  end
end
return gone
