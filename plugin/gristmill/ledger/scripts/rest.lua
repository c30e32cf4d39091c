-- ARGV: model, collection, microseconds from now. The longer of two rests stays.
also_when_memory_is_full()
local now = now_us()
local ends = math.max(now + ARGV[3], rests_until(ARGV[1], ARGV[2]))
redis.call('SET', P .. ':rest:' .. ARGV[1] .. ':' .. ARGV[2], whole(ends), 'PX', math.max(1, math.ceil((ends - now) / 1000)))
return 1
