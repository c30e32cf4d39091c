-- ARGV: job id, parcel id, sequence, model, items, their tokens, body, its bytes in memory with its messages, max documents, max bytes,
--       name of the collection, its key, the tenant of all items or '', what of them is which tenant's (count_shares), the most
--       that a tenant may have of each MEASURE with blanks between them, or '' where that is not asked, and where a roster is
--       kept, what it is told (enrol_each).
-- Returns 1 accepted (now or before), 0 full, -1 unknown job, -2 a cancelled one, or what `above_limit` says.
local job, now = P .. ':job:' .. ARGV[1], now_us()
local state = redis.call('HMGET', job, 'next_seq', 'closed', 'cancelled_at')
if not state[1] then return -1 end
if state[3] then return -2 end
-- Even where it is full: whoever asks is alive. A job that was closed because its producer had said nothing opens again.
redis.call('ZADD', P .. ':open', whole(now), ARGV[1])
if state[2] == '1' then
  redis.call('HSET', job, 'closed', 0)
  redis.call('HDEL', job, 'finished_at', 'abandoned')
  redis.call('ZREM', P .. ':finished', ARGV[1])
end
if tonumber(ARGV[3]) < tonumber(state[1]) then return 1 end
if ARGV[14] ~= '' and ARGV[15] ~= '' then
  local defaults = {}
  for each in string.gmatch(ARGV[15], '%S+') do table.insert(defaults, each) end
  local above = above_limit(cjson.decode(ARGV[14]), defaults)
  if above then
    note_limited(above[1], now)
    return above
  end
end
local load = redis.call('HMGET', P .. ':load', 'documents', 'bytes')
local documents, items = tonumber(load[1] or '0'), tonumber(ARGV[5])
local bytes = tonumber(load[2] or '0') + JOB_COST * redis.call('ZCARD', P .. ':jobs') + ARGV[8]
  + WEBHOOK_COST * redis.call('ZCARD', P .. ':webhooks')
if documents > 0 and (documents + items > tonumber(ARGV[9]) or bytes > tonumber(ARGV[10])) then return 0 end
-- Whose the job is: the one tenant's of all that it accepts, or nobody's.
local tenant = redis.call('HGET', job, 'tenant')
if tenant ~= ARGV[13] then own(ARGV[1], not tenant and ARGV[13] or '', now) end
store_parcel(ARGV[2], ARGV[1], ARGV[4], ARGV[11], items, ARGV[6], ARGV[7], ARGV[8], 0, ARGV[14], now)
redis.call('HSET', job, 'next_seq', ARGV[3] + 1, 'model', ARGV[4])
redis.call('HINCRBY', job, 'accepted', items)
redis.call('HINCRBY', job, 'open', 1)
if ARGV[16] then enrol_each(ARGV[12], cjson.decode(ARGV[16])) end
return 1
