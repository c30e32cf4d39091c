-- ARGV: parcel id, token, key of the collection that it was accepted for, its deletions that are done as the roster is told
--       (strike_each) or '', number of counters, (counter, amount)..., then
--       (letter id, body, error, collection, key, name of the document)... Returns 1, or 0 for anybody but the holder.
--       Whoever it is, its intent is over: it has read back what became of its writes.
redis.call('ZREM', P .. ':intents', ARGV[2])
redis.call('DEL', P .. ':intent:' .. ARGV[2])
local parcel = P .. ':parcel:' .. ARGV[1]
if not holds(parcel, ARGV[2]) then return 0 end
local now, job, last = now_us(), redis.call('HGET', parcel, 'job'), 5 + 2 * ARGV[5]
drop_parcel(ARGV[1])
for i = last + 1, #ARGV, 6 do
  store_letter(now, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
end
if ARGV[4] ~= '' then strike_each(ARGV[3], cjson.decode(ARGV[4])) end
count_done(job, 1, now, ARGV, 6, last)
return 1
