-- ARGV: job id, the tenant that it names. From now on it names nobody. Returns 1, or 0 where it names another or is unknown.
also_when_memory_is_full()
if redis.call('HGET', P .. ':job:' .. ARGV[1], 'tenant') ~= ARGV[2] then return 0 end
own(ARGV[1], nil, now_us())
return 1
