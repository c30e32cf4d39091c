-- ARGV: parcel id, its job, key of the collection that it was accepted for, and where a roster is kept, what it was told (enrol_each).
-- Ends a parcel of a cancelled job that nobody works on, or has begun to write. Its documents are expected as they were before.
-- Returns how many items that were.
also_when_memory_is_full()
local parcel, now = P .. ':parcel:' .. ARGV[1], now_us()
local kept = redis.call('HMGET', parcel, 'job', 'model', 'collection', 'items', 'token')
if kept[1] ~= ARGV[2] or is_begun(ARGV[1], now) or redis.call('HEXISTS', P .. ':job:' .. ARGV[2], 'cancelled_at') == 0 then return 0 end
if kept[5] ~= '' and tonumber(redis.call('ZSCORE', P .. ':held:' .. kept[2], ARGV[1]) or '0') > now then return 0 end
step_out(ARGV[1], kept[1], kept[2], kept[3], now)
drop_parcel(ARGV[1])
if ARGV[4] then withdraw_each(ARGV[3], cjson.decode(ARGV[4])) end
count_done(kept[1], 1, now, {'cancelled', kept[4]}, 1, 2)
return tonumber(kept[4])
