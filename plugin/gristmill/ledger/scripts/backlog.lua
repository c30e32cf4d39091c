-- ARGV: model, lines to look at. Returns how many of its parcels could be claimed now; of lines beyond so many, one each.
local now, limit, model = now_us(), tonumber(ARGV[2]), ARGV[1]
local lines = P .. ':lines:' .. model
local count = redis.call('ZCOUNT', P .. ':held:' .. model, '-inf', whole(now))
for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', lines, '-inf', whole(now), 'LIMIT', 0, limit)) do
  local head = redis.call('ZRANGE', waiting_of(model, job_id), 0, 0, 'WITHSCORES')
  if opens_at(model, job_id, head[1], tonumber(head[2]), now) <= now then
    count = count + redis.call('ZCOUNT', waiting_of(model, job_id), '-inf', whole(now))
  end
end
return count + math.max(0, redis.call('ZCOUNT', lines, '-inf', whole(now)) - limit)
