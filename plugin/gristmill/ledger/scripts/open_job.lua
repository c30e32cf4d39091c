-- ARGV: job id, collection, tenant or '', URL that is told when it is done or '', priority.
-- Returns {version, now}, both in microseconds, as strings (Lua numbers lose digits).
-- Also then, so that an `enqueue` waits at a full server instead of failing: jobs are small, and bounded in number.
also_when_memory_is_full()
local now = now_us()
local last = tonumber(redis.call('GET', P .. ':clock') or '0')
local version = math.max(now, last + 1)
redis.call('SET', P .. ':clock', whole(version))
redis.call('HSET', P .. ':job:' .. ARGV[1], 'collection', ARGV[2], 'created_at', whole(now),
  'closed', 0, 'next_seq', 0, 'open', 0, 'accepted', 0, 'priority', ARGV[5])
if ARGV[3] ~= '' then redis.call('HSET', P .. ':job:' .. ARGV[1], 'tenant', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('SET', P .. ':notify:' .. ARGV[1], ARGV[4]) end
redis.call('ZADD', P .. ':jobs', whole(now), ARGV[1])
redis.call('ZADD', P .. ':open', whole(now), ARGV[1])
return {whole(version), whole(now)}
