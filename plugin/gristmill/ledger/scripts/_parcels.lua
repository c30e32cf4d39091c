-- Parcels: how they come, go back and go.
local function store_parcel(id, job, model, collection, items, tokens, body, bytes, attempts, shares, now)
  redis.call('HSET', P .. ':parcel:' .. id, 'body', body, 'job', job, 'model', model, 'collection', collection,
    'items', items, 'tokens', tokens, 'bytes', bytes, 'attempts', attempts, 'token', '', 'accepted_at', whole(now))
  if shares ~= '' then redis.call('HSET', P .. ':parcel:' .. id, 'shares', shares) end
  wait_in_line(id, job, model, collection, now, now)
  count_owed(job, model, 1, items, tokens)
  redis.call('HINCRBY', P .. ':load', 'bytes', bytes)
  count_shares(shares, 1)
end

-- Only a held parcel is ever dropped, so it is in no line.
local function drop_parcel(id)
  local parcel = P .. ':parcel:' .. id
  local kept = redis.call('HMGET', parcel, 'items', 'bytes', 'model', 'token', 'job', 'encoded', 'encoded_tokens', 'tokens',
    'shares')
  redis.call('DEL', parcel, P .. ':claim:' .. kept[4])
  redis.call('ZREM', P .. ':held:' .. kept[3], id)
  count_owed(kept[5], kept[3], -1, -kept[1], -kept[8])
  redis.call('HINCRBY', P .. ':load', 'bytes', -kept[2])
  count_shares(kept[9], -1)
  count_encoded(kept[5], 0 - (kept[6] or 0), 0 - (kept[7] or 0))
end

-- Out of its holder's hands and back into its line, with nothing done of it.
local function give_back(id, due, now)
  local parcel = P .. ':parcel:' .. id
  local kept = redis.call('HMGET', parcel, 'model', 'collection', 'job', 'token')
  redis.call('HSET', parcel, 'token', '')
  redis.call('DEL', P .. ':claim:' .. kept[4])
  redis.call('ZREM', P .. ':held:' .. kept[1], id)
  note_encoded(parcel, 0, 0)
  wait_in_line(id, kept[3], kept[1], kept[2], due, now)
end
