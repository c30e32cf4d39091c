-- ARGV: job id, parcel id, sequence, model, items, body, max documents, max bytes,
--       time to live of the job in seconds, name of the collection, its key, then for the roster, where one is kept,
--       (bucket, name, version, '1' for a document or '0' for a deletion)...
-- Returns 1 accepted (now or before), 0 full, -1 unknown job.
local job = P .. ':job:' .. ARGV[1]
local next_seq = tonumber(redis.call('HGET', job, 'next_seq') or '-1')
if next_seq < 0 then return -1 end
if tonumber(ARGV[3]) < next_seq then return 1 end
local load = redis.call('HMGET', P .. ':load', 'documents', 'bytes')
local documents, bytes = tonumber(load[1] or '0'), tonumber(load[2] or '0')
local items = tonumber(ARGV[5])
if documents > 0 and (documents + items > tonumber(ARGV[7]) or bytes + #ARGV[6] > tonumber(ARGV[8])) then
  return 0
end
store_parcel(ARGV[2], ARGV[1], ARGV[4], ARGV[10], items, ARGV[6], 0, now_us())
redis.call('HSET', job, 'next_seq', ARGV[3] + 1)
redis.call('HINCRBY', job, 'accepted', items)
redis.call('HINCRBY', job, 'open', 1)
redis.call('EXPIRE', job, ARGV[9])
for i = 12, #ARGV, 4 do enrol(ARGV[11], ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] == '1') end
return 1
