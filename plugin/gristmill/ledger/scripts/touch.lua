-- ARGV: job id. A sign of life of its producer, who waits.
also_when_memory_is_full()
redis.call('ZADD', P .. ':open', 'XX', whole(now_us()), ARGV[1])
return 1
