-- ARGV: seconds without a sign of life after which a producer is taken for dead, most jobs at once. Closes what dead
-- producers left open, then forgets finished jobs whose time is over. Returns how many it forgot.
also_when_memory_is_full()
local now = now_us()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':open', '-inf', whole(now - ARGV[1] * 1000000), 'LIMIT', 0, ARGV[2])) do
  redis.call('ZREM', P .. ':open', id)
  if redis.call('EXISTS', P .. ':job:' .. id) == 1 then
    redis.call('HSET', P .. ':job:' .. id, 'closed', 1, 'abandoned', 1)
    settle(id, now)
  else
    forget_job(id)
  end
end
forget_webhooks(now, tonumber(ARGV[2]))
return forget_finished(now, tonumber(ARGV[2]))
