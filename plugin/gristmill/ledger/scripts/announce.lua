-- ARGV: digest, JSON, how many are kept.
also_when_memory_is_full()
redis.call('HSET', P .. ':models', ARGV[1], ARGV[2])
redis.call('ZADD', P .. ':announced', whole(now_us()), ARGV[1])
for _, old in ipairs(redis.call('ZRANGE', P .. ':announced', 0, -ARGV[3] - 1)) do
  redis.call('ZREM', P .. ':announced', old)
  redis.call('HDEL', P .. ':models', old)
end
return 1
