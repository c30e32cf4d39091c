-- Put in front of every script. All keys share the prefix {P} and with it one hash slot, so a script may touch any.
--
--   {P}:job:<id>      hash    collection created_at finished_at closed next_seq open rejected
--                             accepted stored skipped superseded deleted dead gone tokens chunks truncated
--   {P}:jobs          zset    job id       -> created_at
--   {P}:parcel:<id>   hash    body job model collection items bytes attempts token accepted_at error
--   {P}:turns:<model>           zset    collection -> when one of its parcels can be claimed next  (microseconds)
--   {P}:waiting:<model>:<coll>  zset    parcel id  -> when it is due: accepted, or end of its delay (microseconds)
--   {P}:rest:<model>:<coll>     string  end of the collection's rest (microseconds), with a time to live
--   {P}:held:<model>            zset    parcel id  -> end of the holder's lease                     (microseconds)
--   {P}:claim:<token>           string  parcel id that was given for this token, with the lease as its time to live
--   {P}:load          hash    parcels documents bytes
--   {P}:dead          zset    letter id    -> died_at
--   {P}:letters       hash    letter id    -> JSON
--   {P}:tomb:<key>:<point>   string version, with a time to live; <key> is CollectionSpec.key
--   {P}:intents       zset    token of a claim -> when it said what it is about to write, capped      (seconds)
--   {P}:intent:<token>  string  JSON of what, with the time to live of a tombstone
--   {P}:clock         string  highest version given out
--   {P}:roster:<key>            bitmap  which buckets of the roster hold anything
--   {P}:roster:<key>:<bucket>   hash    "<length of tenant>:<tenant><document id>" -> highest version accepted
--   {P}:collections   set     names of this installation's collections
--   {P}:deleted:<name>  string  it was deleted on purpose, with a time to live
--   {P}:refused       list    JSON of refused messages, newest first, capped
--   {P}:unreadable    hash    parcel id    -> bytes that are no parcel
--
-- Models are digests and hold no colon, so a collection's name, which may hold any character, cannot make two keys one.
-- No script walks a backlog: each takes steps that grow with the logarithm of what is held.
local P = KEYS[1]

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function holds(parcel, token)
  return redis.call('HGET', parcel, 'token') == token and token ~= ''
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

local function store_parcel(id, job, model, collection, items, body, attempts, now)
  redis.call('HSET', P .. ':parcel:' .. id, 'body', body, 'job', job, 'model', model, 'collection', collection,
    'items', items, 'bytes', #body, 'attempts', attempts, 'token', '', 'accepted_at', whole(now))
  wait_in_line(id, model, collection, now, now)
  redis.call('HINCRBY', P .. ':load', 'parcels', 1)
  redis.call('HINCRBY', P .. ':load', 'documents', items)
  redis.call('HINCRBY', P .. ':load', 'bytes', #body)
end

-- Only a held parcel is ever dropped, so it is in no line.
local function drop_parcel(id)
  local parcel = P .. ':parcel:' .. id
  local kept = redis.call('HMGET', parcel, 'items', 'bytes', 'model', 'token')
  redis.call('DEL', parcel, P .. ':claim:' .. kept[4])
  redis.call('ZREM', P .. ':held:' .. kept[3], id)
  redis.call('HINCRBY', P .. ':load', 'parcels', -1)
  redis.call('HINCRBY', P .. ':load', 'documents', -kept[1])
  redis.call('HINCRBY', P .. ':load', 'bytes', -kept[2])
end

-- A closed job without open parcels is done. Any job is forgotten `ttl_s` after its last sign of life.
local function settle(job, ttl_s, now)
  local state = redis.call('HMGET', job, 'closed', 'open')
  if state[1] == '1' and tonumber(state[2]) == 0 then
    redis.call('HSET', job, 'finished_at', whole(now))
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
