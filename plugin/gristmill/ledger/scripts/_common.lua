-- Put in front of every script. All keys share the prefix {P} and with it one hash slot, so a script may touch any.
--
--   {P}:job:<id>      hash    collection created_at finished_at closed next_seq open rejected
--                             accepted stored skipped superseded deleted dead tokens chunks truncated
--   {P}:jobs          zset    job id       -> created_at
--   {P}:parcel:<id>   hash    body job queue items bytes attempts token published_at error
--   {P}:waiting       zset    parcel id    -> published_at, while nobody holds it          (microseconds)
--   {P}:held          zset    parcel id    -> end of the holder's lease                    (microseconds)
--   {P}:load          hash    parcels documents bytes
--   {P}:dead          zset    letter id    -> died_at
--   {P}:letters       hash    letter id    -> JSON
--   {P}:tomb:<key>:<point>   string version, with a time to live; <key> is CollectionSpec.key
--   {P}:intents       zset    token of a claim -> when it said what it is about to write, capped      (seconds)
--   {P}:intent:<token>  string  JSON of what, with the time to live of a tombstone
--   {P}:clock         string  highest version given out
--   {P}:roster:<key>            bitmap  which buckets of the roster hold anything
--   {P}:roster:<key>:<bucket>   hash    "<length of tenant>:<tenant><document id>" -> highest version accepted
--   {P}:refused       list    JSON of refused messages, newest first, capped
--   {P}:unreadable    hash    parcel id    -> bytes that are no parcel
local P = KEYS[1]

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function holds(parcel, token)
  return redis.call('HGET', parcel, 'token') == token and token ~= ''
end

local function store_parcel(id, job, queue, items, body, attempts, now)
  redis.call('HSET', P .. ':parcel:' .. id, 'body', body, 'job', job, 'queue', queue, 'items', items,
    'bytes', #body, 'attempts', attempts, 'token', '', 'published_at', string.format('%.0f', now))
  redis.call('ZADD', P .. ':waiting', string.format('%.0f', now), id)
  redis.call('HINCRBY', P .. ':load', 'parcels', 1)
  redis.call('HINCRBY', P .. ':load', 'documents', items)
  redis.call('HINCRBY', P .. ':load', 'bytes', #body)
end

local function drop_parcel(id)
  local parcel = P .. ':parcel:' .. id
  local kept = redis.call('HMGET', parcel, 'items', 'bytes')
  redis.call('DEL', parcel)
  redis.call('ZREM', P .. ':waiting', id)
  redis.call('ZREM', P .. ':held', id)
  redis.call('HINCRBY', P .. ':load', 'parcels', -1)
  redis.call('HINCRBY', P .. ':load', 'documents', -kept[1])
  redis.call('HINCRBY', P .. ':load', 'bytes', -kept[2])
end

-- A closed job without open parcels is done. Any job is forgotten `ttl_s` after its last sign of life.
local function settle(job, ttl_s, now)
  local state = redis.call('HMGET', job, 'closed', 'open')
  if state[1] == '1' and tonumber(state[2]) == 0 then
    redis.call('HSET', job, 'finished_at', string.format('%.0f', now))
  end
  redis.call('EXPIRE', job, ttl_s)
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
