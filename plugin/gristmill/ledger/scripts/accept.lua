-- ARGV: job id, parcel id, sequence, model, items, body, its bytes in memory with its messages, max documents, max bytes,
--       name of the collection, its key, the tenant of all items or '', and where a roster is kept, what it is told
--       (enrol_each).
-- Returns 1 accepted (now or before), 0 full, -1 unknown job.
local job, now = P .. ':job:' .. ARGV[1], now_us()
local state = redis.call('HMGET', job, 'next_seq', 'closed')
if not state[1] then return -1 end
-- Even where it is full: whoever asks is alive. A job that was closed because its producer had said nothing opens again.
redis.call('ZADD', P .. ':open', whole(now), ARGV[1])
if state[2] == '1' then
  redis.call('HSET', job, 'closed', 0)
  redis.call('HDEL', job, 'finished_at')
  redis.call('ZREM', P .. ':finished', ARGV[1])
end
if tonumber(ARGV[3]) < tonumber(state[1]) then return 1 end
local load = redis.call('HMGET', P .. ':load', 'documents', 'bytes')
local documents, items = tonumber(load[1] or '0'), tonumber(ARGV[5])
local bytes = tonumber(load[2] or '0') + JOB_COST * redis.call('ZCARD', P .. ':jobs') + ARGV[7]
if documents > 0 and (documents + items > tonumber(ARGV[8]) or bytes > tonumber(ARGV[9])) then return 0 end
store_parcel(ARGV[2], ARGV[1], ARGV[4], ARGV[10], items, ARGV[6], ARGV[7], 0, now)
redis.call('HSET', job, 'next_seq', ARGV[3] + 1, 'model', ARGV[4])
-- Whose the job is: the one tenant's of all that it accepts, or nobody's.
local tenant = redis.call('HGET', job, 'tenant')
if tenant ~= ARGV[12] then redis.call('HSET', job, 'tenant', not tenant and ARGV[12] or '') end
redis.call('HINCRBY', job, 'accepted', items)
redis.call('HINCRBY', job, 'open', 1)
if ARGV[13] then enrol_each(ARGV[11], cjson.decode(ARGV[13])) end
return 1
