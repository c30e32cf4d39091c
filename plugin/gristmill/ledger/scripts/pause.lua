-- ARGV: job id. Nothing of it is given to anybody until it is resumed; what is in hand goes on. Returns 1, or 0 where it is unknown or
-- over.
also_when_memory_is_full()
if not may_be_steered(ARGV[1]) then return 0 end
redis.call('SADD', P .. ':paused', ARGV[1])
if redis.call('HSETNX', P .. ':job:' .. ARGV[1], 'paused', 1) == 1 then count_job_paused(ARGV[1], 1) end
return 1
