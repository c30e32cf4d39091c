-- ARGV: lease in microseconds, origins that have enough on their way. Returns {id, attempt, fields of its hash}, or false.
-- Origins take turns, so that one with a thousand webhooks, or one that answers slowly, holds up no other. What is taken comes
-- due again at the end of the lease: whoever took it may be dead by then.
also_when_memory_is_full()
local now, busy = now_us(), {}
for i = 2, #ARGV do busy[ARGV[i]] = true end

local function next_origin()
  for _, origin in ipairs(redis.call('ZRANGEBYSCORE', P .. ':origins', '-inf', whole(now), 'LIMIT', 0, #ARGV)) do
    if not busy[origin] then return origin end
  end
end

while true do
  local origin = next_origin()
  if not origin then return false end
  local due = P .. ':due:' .. origin
  local first = redis.call('ZRANGE', due, 0, 1, 'WITHSCORES')
  local id, is_due, due_next = first[1], first[2] and tonumber(first[2]) <= now, first[2]
  if is_due then
    due_next = first[4] and math.min(first[4], now + ARGV[1]) or now + ARGV[1]
    redis.call('ZADD', due, whole(now + ARGV[1]), id)
  end
  if due_next then
    redis.call('ZADD', P .. ':origins', whole(math.max(now, due_next)), origin)
  else
    redis.call('ZREM', P .. ':origins', origin)
  end
  local webhook = P .. ':webhook:' .. (id or '')
  if is_due and redis.call('EXISTS', webhook) == 1 then
    redis.call('HSET', webhook, 'due', whole(now + ARGV[1]))
    return {id, redis.call('HINCRBY', webhook, 'attempts', 1), redis.call('HGETALL', webhook)}
  elseif is_due then -- deleted by hand
    redis.call('ZREM', due, id)
  end
end
