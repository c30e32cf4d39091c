-- ARGV: duty, holder, lease in milliseconds. Returns 1 while `holder` holds the duty.
also_when_memory_is_full()
local turn = P .. ':turn:' .. ARGV[1]
local holder = redis.call('GET', turn)
if holder and holder ~= ARGV[2] then return 0 end
redis.call('SET', turn, ARGV[2], 'PX', ARGV[3])
return 1
