-- ARGV: parcel id, its body as it was read, the body without some of its items or '' where none is left, items left, their
--       tokens, bytes in memory of what is left, point ids of the items that go with blanks between them, what
--       of the others is which tenant's.
-- Takes the parcel from whoever holds it. Returns {items gone, 1 where it was held and waits again}; 0 where it has changed.
also_when_memory_is_full()
local parcel, now = P .. ':parcel:' .. ARGV[1], now_us()
local kept = redis.call('HMGET', parcel, 'body', 'job', 'model', 'collection', 'items', 'bytes', 'token', 'accepted_at', 'found', 'tokens', 'shares')
if kept[1] ~= ARGV[2] then return {0, 0} end
local job, model, collection, was_held = kept[2], kept[3], kept[4], kept[7] ~= ''
local gone = kept[5] - ARGV[4]
local due = tonumber(redis.call('ZSCORE', waiting_of(model, job), ARGV[1]) or kept[8])
step_out(ARGV[1], job, model, collection, now)
if ARGV[3] == '' then
  drop_parcel(ARGV[1])
  count_done(job, 1, now, {'gone', gone}, 1, 2)
  return {gone, 0}
end
note_encoded(parcel, 0, 0)
redis.call('DEL', P .. ':claim:' .. kept[7])
redis.call('ZREM', P .. ':held:' .. model, ARGV[1])
redis.call('HINCRBY', P .. ':load', 'bytes', ARGV[6] - kept[6])
count_owed(job, model, 0, -gone, ARGV[5] - kept[10])
count_shares(kept[11], -1)
count_shares(ARGV[8], 1)
local theirs, found = {}, {}
for id in string.gmatch(ARGV[7], '%S+') do theirs[id] = true end
for id in string.gmatch(kept[9] or '', '%S+') do
  if not theirs[id] then table.insert(found, id) end
end
redis.call('HSET', parcel, 'body', ARGV[3], 'items', ARGV[4], 'tokens', ARGV[5], 'bytes', ARGV[6], 'token', '',
  'found', table.concat(found, ' '), 'shares', ARGV[8])
redis.call('HDEL', parcel, 'error')
wait_in_line(ARGV[1], job, model, collection, due, now)
count_done(job, 0, now, {'gone', gone}, 1, 2)
return {gone, was_held and 1 or 0}
