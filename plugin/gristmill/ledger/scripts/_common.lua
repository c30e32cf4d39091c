-- Put in front of every script. All keys share the prefix {P} and with it one hash slot, so a script may touch any.
--
--   {P}:job:<id>      hash    collection tenant model created_at finished_at closed next_seq open rejected
--                             accepted stored skipped superseded deleted absent dead gone tokens chunks truncated
--                             encoded encoded_tokens: those of its parcels that are held, together
--   {P}:jobs          zset    job id       -> created_at                                (microseconds, as all below)
--   {P}:open          zset    job id       -> its producer's last sign of life, until the job is closed
--   {P}:finished      zset    job id       -> finished_at; the oldest make room for new ones
--   {P}:parcel:<id>   hash    body job model collection items bytes attempts token accepted_at error found
--                             encoded encoded_tokens: what its holder has said, and a new one has not
--   {P}:turns:<model>           zset    collection -> when one of its parcels can be claimed next
--   {P}:waiting:<model>:<coll>  zset    parcel id  -> when it is due: accepted, or end of its delay
--   {P}:rest:<model>:<coll>     string  end of the collection's rest, with a time to live
--   {P}:held:<model>            zset    parcel id  -> end of the holder's lease
--   {P}:claim:<token>           string  parcel id that was given for this token, with the lease as its time to live
--   {P}:load          hash    parcels documents bytes dead_letters dead_bytes; bytes are what Redis holds (costs.py)
--                             documents:<model>: those that go to one model
--   {P}:letter:<id>   hash    body error collection key name bytes, for unreadable parcels raw and parcel too
--   {P}:dead          zset    letter id    -> died_at
--   {P}:dead:<error>:<coll>   zset    the same, of one error in one collection by the name that was asked for
--   {P}:letters_of:<key>      zset    "<name on the roster>\0<letter id>" -> 0, to be read by name
--   {P}:dead_counts   hash    "<error>:<collection>" -> letters; names every index above
--   {P}:bared         string  died_at of the newest letter whose text has been forgotten
--   {P}:tombs:<key>        set     days since 1970 on which something was deleted, with a time to live; <key> is
--                                  CollectionSpec.key
--   {P}:tomb:<day>:<key>   hash    point id -> version that is deleted, with a time to live
--   {P}:graves:<day>:<length of tenant>:<tenant><key>   set   point ids of a tenant that are in the tomb of that day, likewise
--   {P}:intents       zset    token of a claim -> when it said what it is about to write, capped
--   {P}:intent:<token>  string  JSON of what, with the time to live of a tombstone
--   {P}:retractions       zset    id of a retraction -> when it was made
--   {P}:retraction:<id>   string  JSON of what a claim may still write of a tenant that is erased, with the same time to live
--   {P}:clock         string  highest version given out
--   {P}:roster:<key>            bitmap  which buckets of the roster hold anything
--   {P}:roster:<key>:<bucket>   hash    "<length of tenant>:<tenant><document id>" -> highest version accepted
--   {P}:collections   set     names of this installation's collections
--   {P}:deleted:<name>  string  it was deleted on purpose, with a time to live
--   {P}:models        hash    digest       -> JSON of its announcement, capped
--   {P}:announced     zset    digest       -> when it was announced last
--   {P}:worker:<id>   string  JSON of its status, with a time to live
--   {P}:workers       zset    worker id    -> end of that time; lives as long as the longest
--   {P}:turn:<duty>   string  who has the duty, with a time to live
--   {P}:refused       list    JSON of refused messages, newest first, capped, with a time to live
--   {P}:unreadable    zset    parcel id    -> when it was parked; the bytes are with its letter
--
-- Models are digests and hold no colon, so a collection's name, which may hold any character, cannot make two keys one.
-- What has no time to live is counted against a mark (`tests/key_leaks.py` names the owner of every kind).
-- No script walks a backlog: each takes steps that grow with the logarithm of what is held.
local P = KEYS[1]

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function holds(parcel, token)
  return redis.call('HGET', parcel, 'token') == token and token ~= ''
end

-- A server at its memory limit refuses a script's first write where that may need memory, and no later one. So a script that
-- frees memory, or without which nothing would be freed, begins with a write that needs none.
local function also_when_memory_is_full()
  redis.call('DEL', P .. ':nothing')
end

-- Lua would write a number of microseconds as 1.7e+15.
local function whole(number)
  return string.format('%.0f', number)
end

local function rests_until(model, collection)
  return tonumber(redis.call('GET', P .. ':rest:' .. model .. ':' .. collection) or '0')
end

-- A parcel that comes never brings its collection's turn forward beyond now: nobody gains by giving back.
local function wait_in_line(id, model, collection, due, now)
  redis.call('ZADD', P .. ':waiting:' .. model .. ':' .. collection, whole(due), id)
  local turn = math.max(now, due, rests_until(model, collection))
  redis.call('ZADD', P .. ':turns:' .. model, 'LT', whole(turn), collection)
end

-- What a string of this size takes up: see costs.py.
local function allocated(size)
  return size + math.floor(size / 8)
end

local function count_documents(model, documents)
  redis.call('HINCRBY', P .. ':load', 'documents', documents)
  local those = 'documents:' .. model
  if redis.call('HINCRBY', P .. ':load', those, documents) <= 0 then redis.call('HDEL', P .. ':load', those) end
end

local function count_encoded(job_id, documents, tokens)
  local job = P .. ':job:' .. job_id
  if (documents ~= 0 or tokens ~= 0) and redis.call('EXISTS', job) == 1 then
    redis.call('HINCRBY', job, 'encoded', documents)
    redis.call('HINCRBY', job, 'encoded_tokens', tokens)
  end
end

-- What the holder of a parcel has encoded of it; 0 and 0 for a parcel that changes hands.
local function note_encoded(parcel, documents, tokens)
  local kept = redis.call('HMGET', parcel, 'job', 'encoded', 'encoded_tokens')
  local more, more_tokens = documents - (kept[2] or 0), tokens - (kept[3] or 0)
  if more ~= 0 or more_tokens ~= 0 then
    redis.call('HSET', parcel, 'encoded', documents, 'encoded_tokens', tokens)
    count_encoded(kept[1], more, more_tokens)
  end
end

local function store_parcel(id, job, model, collection, items, body, bytes, attempts, now)
  redis.call('HSET', P .. ':parcel:' .. id, 'body', body, 'job', job, 'model', model, 'collection', collection,
    'items', items, 'bytes', bytes, 'attempts', attempts, 'token', '', 'accepted_at', whole(now))
  wait_in_line(id, model, collection, now, now)
  redis.call('HINCRBY', P .. ':load', 'parcels', 1)
  count_documents(model, items)
  redis.call('HINCRBY', P .. ':load', 'bytes', bytes)
end

-- Only a held parcel is ever dropped, so it is in no line.
local function drop_parcel(id)
  local parcel = P .. ':parcel:' .. id
  local kept = redis.call('HMGET', parcel, 'items', 'bytes', 'model', 'token', 'job', 'encoded', 'encoded_tokens')
  redis.call('DEL', parcel, P .. ':claim:' .. kept[4])
  redis.call('ZREM', P .. ':held:' .. kept[3], id)
  redis.call('HINCRBY', P .. ':load', 'parcels', -1)
  count_documents(kept[3], -kept[1])
  redis.call('HINCRBY', P .. ':load', 'bytes', -kept[2])
  count_encoded(kept[5], 0 - (kept[6] or 0), 0 - (kept[7] or 0))
end

local function forget_job(id)
  redis.call('DEL', P .. ':job:' .. id)
  for _, index in ipairs({'jobs', 'open', 'finished'}) do redis.call('ZREM', P .. ':' .. index, id) end
end

-- Forgets finished jobs, oldest first: those whose time is over and those beyond the number that is kept, `limit` at most.
local function forget_finished(now, limit)
  for gone = 0, limit - 1 do
    local oldest = redis.call('ZRANGE', P .. ':finished', 0, 0, 'WITHSCORES')
    local kept = redis.call('ZCARD', P .. ':finished') <= JOBS_KEPT
    if not oldest[1] or (kept and tonumber(oldest[2]) > now - JOB_TTL_S * 1000000) then return gone end
    forget_job(oldest[1])
  end
  return limit
end

-- A closed job without open parcels is done. Two go where one comes, so that they stay few without anybody's help.
local function settle(id, now)
  local job = P .. ':job:' .. id
  local state = redis.call('HMGET', job, 'closed', 'open')
  if state[1] == '1' and tonumber(state[2]) == 0 and redis.call('HSETNX', job, 'finished_at', whole(now)) == 1 then
    redis.call('ZADD', P .. ':finished', whole(now), id)
    forget_finished(now, 2)
  end
end

-- So many parcels of a job are done. One that was forgotten (by hand) must not come back as a half-filled ghost.
local function count_done(id, parcels, now, counters, first, last)
  local job = P .. ':job:' .. id
  if redis.call('EXISTS', job) == 0 then return forget_job(id) end
  for i = first, last, 2 do redis.call('HINCRBY', job, counters[i], counters[i + 1]) end
  redis.call('HINCRBY', job, 'open', 0 - parcels)
  settle(id, now)
end

local function letter_keys(error, collection, key, name, id)
  return error .. ':' .. collection, P .. ':letters_of:' .. key, name .. '\0' .. id
end

local function store_letter(now, id, body, error, collection, key, name)
  local letter, bytes = P .. ':letter:' .. id, LETTER_COST + allocated(#body)
  local group, of_key, member = letter_keys(error, collection, key, name, id)
  redis.call('HSET', letter, 'body', body, 'error', error, 'collection', collection, 'key', key, 'name', name, 'bytes', bytes)
  redis.call('ZADD', P .. ':dead', whole(now), id)
  redis.call('ZADD', P .. ':dead:' .. group, whole(now), id)
  if name ~= '' then redis.call('ZADD', of_key, 0, member) end
  redis.call('HINCRBY', P .. ':dead_counts', group, 1)
  redis.call('HINCRBY', P .. ':load', 'dead_letters', 1)
  redis.call('HINCRBY', P .. ':load', 'dead_bytes', bytes)
end

local function drop_letter(id)
  local letter = P .. ':letter:' .. id
  local kept = redis.call('HMGET', letter, 'error', 'collection', 'key', 'name', 'bytes', 'parcel')
  if not kept[1] then return 0 end
  local group, of_key, member = letter_keys(kept[1], kept[2], kept[3], kept[4], id)
  redis.call('DEL', letter)
  redis.call('ZREM', P .. ':dead', id)
  redis.call('ZREM', P .. ':dead:' .. group, id)
  redis.call('ZREM', of_key, member)
  if kept[6] then redis.call('ZREM', P .. ':unreadable', kept[6]) end
  if redis.call('HINCRBY', P .. ':dead_counts', group, -1) <= 0 then redis.call('HDEL', P .. ':dead_counts', group) end
  redis.call('HINCRBY', P .. ':load', 'dead_letters', -1)
  redis.call('HINCRBY', P .. ':load', 'dead_bytes', -kept[5])
  return 1
end

-- The roster says what each collection should hold. A deletion strikes off what it deletes.
local function enrol(collection, bucket, name, version, is_document)
  local key = P .. ':roster:' .. collection .. ':' .. bucket
  local known = tonumber(redis.call('HGET', key, name) or '-1')
  if is_document and tonumber(version) > known then
    redis.call('HSET', key, name, version)
    redis.call('SETBIT', P .. ':roster:' .. collection, bucket, 1)
  elseif not is_document and known >= 0 and tonumber(version) >= known then
    redis.call('HDEL', key, name)
  end
end

-- items: bucket, name, version, 1 for a document or 0 for a deletion, in turn.
local function enrol_each(collection, items)
  for i = 1, #items, 4 do enrol(collection, items[i], items[i + 1], items[i + 2], items[i + 3] == 1) end
end
