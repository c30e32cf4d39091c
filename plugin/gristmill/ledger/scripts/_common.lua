-- Put in front of every script. All keys share the prefix {P} and with it one hash slot, so a script may touch any.
--
--   {P}:job:<id>      hash    collection tenant priority model created_at finished_at closed next_seq open rejected
--                             accepted stored skipped superseded deleted absent dead gone cancelled tokens chunks truncated
--                             encoded encoded_tokens: those of its parcels that are held, together
--                             abandoned: closed since its producer was silent; webhook: what became of it
--                             paused: 1 while it is; cancelled_at
--   {P}:notify:<id>   string  URL that is told of the job's end; in its hash it would cost a kilobyte for as long as that is kept
--   {P}:webhook:<id>  hash    the job as it ended, and job url attempts due error failed; until it is delivered or forgotten
--   {P}:webhooks      zset    webhook id   -> when its job ended; capped, the oldest make room
--   {P}:origins       zset    origin of a URL -> when one of its webhooks is to be sent next
--   {P}:due:<origin>  zset    webhook id   -> when it is to be sent, or sent again; a failed one is in none
--   {P}:paused, {P}:cancelling   set   jobs that are paused; that are cancelled and have parcels left
--   {P}:jobs          zset    job id       -> created_at                                (microseconds, as all below)
--   {P}:open          zset    job id       -> its producer's last sign of life, until the job is closed
--   {P}:finished      zset    job id       -> finished_at; the oldest make room for new ones
--   {P}:parcel:<id>   hash    body job model collection items tokens bytes attempts token accepted_at error found
--                             begun: when somebody last began to write or to delete its documents
--                             encoded encoded_tokens: what its holder has said, and a new one has not
--                             shares: JSON of what of it is which tenant's, where any is named (_limits.lua)
--   {P}:tenants       hash    tenant       -> "documents tokens bytes" of its unfinished items, in all parcels together
--   {P}:limits        hash    "<documents|tokens|bytes>:<tenant>" -> the most that it may have of these, or `none`; where it is
--                             not the default
--   {P}:limited       zset    tenant       -> when something of it was last refused since it was at a limit; with a time to live
--   {P}:waiting:<model>:<job>   zset    parcel id  -> when it is due: accepted, or end of its delay
--   {P}:lines:<model>           zset    job id     -> when the first of these is due
--   {P}:later:<model>           zset    job id     -> when the fair queue is to look at it again, which it is not in; inf while
--                                                  the job is paused, or cancelled and the parcel not begun
--   {P}:fair:<node>             zset    child      -> its start tag (_fair.lua). <node> is <model>, <model>:<priority> or
--                                                  <model>:<priority>:<flow>; of the last the children are jobs
--   {P}:spent:<node>            zset    child that has nothing to give just now -> where it stopped, while that is ahead
--   {P}:virtual                 hash    node       -> its virtual time
--   {P}:rest:<model>:<coll>     string  end of the collection's rest, with a time to live
--   {P}:held:<model>            zset    parcel id  -> end of the holder's lease
--   {P}:claim:<token>           string  parcel id that was given for this token, with the lease as its time to live
--   {P}:load          hash    parcels documents bytes dead_letters dead_bytes; bytes are what Redis holds (costs.py)
--                             parcels:<model> documents:<model> tokens:<model>: those that go to one model;
--                             paused:<model>: of the tokens those of paused jobs
--   {P}:queued:<model>  zset  job id       -> tokens of its unfinished parcels, waiting or held
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
--   {P}:roster:<key>:<bucket>   hash    "<length of tenant>:<tenant><document id>" -> highest version accepted, and the one
--                                      before it
--   {P}:collections   set     names of this installation's collections
--   {P}:rosters       hash    name of a collection -> key of its roster, so that it goes with a collection that others deleted
--   {P}:deleted:<name>  string  it was deleted on purpose, with a time to live
--   {P}:models        hash    digest       -> JSON of its announcement, capped
--   {P}:announced     zset    digest       -> when it was announced last
--   {P}:worker:<id>   string  JSON of its status, with a time to live
--   {P}:workers       zset    worker id    -> end of that time; lives as long as the longest
--   {P}:loading:<model>  zset  worker id   -> end of that time, of those that load the model; likewise
--   {P}:rates:<model>  hash   worker id   -> end of that time, and the useful tokens per second that it says; likewise
--   {P}:rate:<model>  string  of one of the model's workers: the mean of the living, remembered with a longer time to live
--   {P}:seconds:<model>  list  as many empty entries as one worker would need seconds for what waits and is held, at most
--                                  MOST_SECONDS; its length is what autoscalers look at (`docs/howto/scale.md`)
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

-- What a string of this size takes up: see costs.py.
local function allocated(size)
  return size + math.floor(size / 8)
end

-- Right after whatever changes it, and without anybody's help: while no worker lives, an autoscaler has nothing else to see.
-- While somebody loads the model the list does not become shorter: who was called for what waited is not sent away again.
local function count_seconds(model)
  local list, loading = P .. ':seconds:' .. model, P .. ':loading:' .. model
  local owed = redis.call('HMGET', P .. ':load', 'tokens:' .. model, 'paused:' .. model)
  local tokens = math.max(0, (owed[1] or 0) - (owed[2] or 0))
  local rate = tonumber(redis.call('GET', P .. ':rate:' .. model) or TOKENS_PER_S)
  local wanted, there = math.min(MOST_SECONDS, math.ceil(tokens / rate)), redis.call('LLEN', list)
  if wanted > there then
    local more = {}
    for i = 1, wanted - there do more[i] = '' end
    redis.call('RPUSH', list, unpack(more))
  elseif wanted < there and redis.call('ZCOUNT', loading, whole(now_us()), '+inf') == 0 then
    redis.call('LTRIM', list, there - wanted, -1)
  end
end

-- Nobody is called for what is paused: it waits for whoever resumes it.
local function count_paused(model, tokens)
  local those = 'paused:' .. model
  if redis.call('HINCRBY', P .. ':load', those, tokens) <= 0 then redis.call('HDEL', P .. ':load', those) end
end

-- What a job has unfinished for a model. A parcel is one token at least, so that none is left with the last parcel.
local function count_owed(job_id, model, parcels, documents, tokens)
  local load, queued = P .. ':load', P .. ':queued:' .. model
  redis.call('HINCRBY', load, 'parcels', parcels)
  redis.call('HINCRBY', load, 'documents', documents)
  for name, amount in pairs({parcels = parcels, documents = documents, tokens = tokens}) do
    local those = name .. ':' .. model
    if redis.call('HINCRBY', load, those, amount) <= 0 then redis.call('HDEL', load, those) end
  end
  if tonumber(redis.call('ZINCRBY', queued, tokens, job_id)) <= 0 then redis.call('ZREM', queued, job_id) end
  if redis.call('HEXISTS', P .. ':job:' .. job_id, 'paused') == 1 then count_paused(model, tokens) end
  count_seconds(model)
end

-- Models that anything is unfinished for.
local function models_with_work()
  local found = {}
  for _, name in ipairs(redis.call('HKEYS', P .. ':load')) do
    table.insert(found, string.match(name, '^parcels:(.*)$'))
  end
  return found
end

-- All that a job has unfinished is paused with it, or no more.
local function count_job_paused(job_id, sign)
  for _, model in ipairs(models_with_work()) do
    local tokens = redis.call('ZSCORE', P .. ':queued:' .. model, job_id)
    if tokens then
      count_paused(model, sign * tokens)
      count_seconds(model)
    end
  end
end

local function pause_no_more(job_id)
  redis.call('SREM', P .. ':paused', job_id)
  if redis.call('HDEL', P .. ':job:' .. job_id, 'paused') == 1 then count_job_paused(job_id, -1) end
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

local function forget_job(id)
  redis.call('DEL', P .. ':job:' .. id, P .. ':notify:' .. id)
  for _, index in ipairs({'jobs', 'open', 'finished'}) do redis.call('ZREM', P .. ':' .. index, id) end
  for _, index in ipairs({'paused', 'cancelling'}) do redis.call('SREM', P .. ':' .. index, id) end
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

local function origin_of(url)
  return string.match(url, '^%w+://[^/?]+') or url
end

local function note_webhook(job_id, state)
  local job = P .. ':job:' .. job_id
  if redis.call('EXISTS', job) == 1 then redis.call('HSET', job, 'webhook', state) end
end

local function send_webhook(id, url, due, now)
  redis.call('HSET', P .. ':webhook:' .. id, 'due', whole(due))
  redis.call('ZADD', P .. ':due:' .. origin_of(url), whole(due), id)
  redis.call('ZADD', P .. ':origins', 'LT', whole(math.max(due, now)), origin_of(url))
end

local function send_no_more(id, url)
  local due = P .. ':due:' .. origin_of(url)
  redis.call('ZREM', due, id)
  if redis.call('EXISTS', due) == 0 then redis.call('ZREM', P .. ':origins', origin_of(url)) end
end

local function drop_webhook(id)
  local webhook = P .. ':webhook:' .. id
  local url = redis.call('HGET', webhook, 'url')
  redis.call('ZREM', P .. ':webhooks', id)
  if not url then return 0 end
  send_no_more(id, url)
  redis.call('DEL', webhook)
  return 1
end

local function forget_webhooks(now, limit)
  for _ = 1, limit do
    local oldest = redis.call('ZRANGE', P .. ':webhooks', 0, 0, 'WITHSCORES')
    local kept = redis.call('ZCARD', P .. ':webhooks') <= WEBHOOKS_KEPT
    if not oldest[1] or (kept and tonumber(oldest[2]) > now - WEBHOOK_TTL_S * 1000000) then return end
    local job = redis.call('HGET', P .. ':webhook:' .. oldest[1], 'job')
    if job then note_webhook(job, 'failed') end
    drop_webhook(oldest[1])
  end
end

-- What is sent is the job as it is now: the webhook may be sent long after the job has been forgotten.
local function queue_webhook(job_id, now)
  local job = P .. ':job:' .. job_id
  local url = redis.call('GET', P .. ':notify:' .. job_id)
  if not url then return end
  -- A producer that was only slow may go on, and end the job once more.
  if not redis.call('HGET', job, 'abandoned') then redis.call('DEL', P .. ':notify:' .. job_id) end
  local id = job_id .. '.' .. whole(now)
  redis.call('HSET', job, 'webhook', 'waiting')
  redis.call('HSET', P .. ':webhook:' .. id, unpack(redis.call('HGETALL', job)))
  redis.call('HSET', P .. ':webhook:' .. id, 'job', job_id, 'url', url, 'attempts', 0)
  redis.call('ZADD', P .. ':webhooks', whole(now), id)
  send_webhook(id, url, now, now)
  forget_webhooks(now, 2)
end

-- A closed job without open parcels is done. Two go where one comes, so that they stay few without anybody's help.
local function settle(id, now)
  local job = P .. ':job:' .. id
  local state = redis.call('HMGET', job, 'closed', 'open')
  if state[1] == '1' and tonumber(state[2]) == 0 and redis.call('HSETNX', job, 'finished_at', whole(now)) == 1 then
    redis.call('ZADD', P .. ':finished', whole(now), id)
    redis.call('SREM', P .. ':cancelling', id)
    pause_no_more(id)
    queue_webhook(id, now)
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

-- The roster says what each collection should hold: of a document the newest version that was accepted, and the one before it, which is
-- expected again where the newest is taken back. A deletion that is done strikes off what it deletes.
local function entry_of(collection, bucket, name)
  local key, versions = P .. ':roster:' .. collection .. ':' .. bucket, {}
  for version in string.gmatch(redis.call('HGET', key, name) or '', '%S+') do table.insert(versions, version) end
  return key, versions
end

local function write_entry(key, name, versions)
  if #versions == 0 then return redis.call('HDEL', key, name) end
  redis.call('HSET', key, name, table.concat(versions, ' ', 1, math.min(#versions, 2)))
end

local function enrol(collection, bucket, name, version)
  local key, versions = entry_of(collection, bucket, name)
  -- No bit is ever taken back, so whoever is on the roster has set it.
  if #versions == 0 then redis.call('SETBIT', P .. ':roster:' .. collection, bucket, 1) end
  local place = 1
  while versions[place] and tonumber(versions[place]) > tonumber(version) do place = place + 1 end
  if versions[place] and tonumber(versions[place]) == tonumber(version) then return end
  table.insert(versions, place, version)
  write_entry(key, name, versions)
end

-- Those versions that `goes` says go.
local function take_off(collection, bucket, name, goes)
  local key, versions = entry_of(collection, bucket, name)
  local left = {}
  for _, each in ipairs(versions) do
    if not goes(tonumber(each)) then table.insert(left, each) end
  end
  if #left < #versions then write_entry(key, name, left) end
end

local function strike(collection, bucket, name, through)
  take_off(collection, bucket, name, function(version) return version <= tonumber(through) end)
end

local function withdraw(collection, bucket, name, taken_back)
  take_off(collection, bucket, name, function(version) return version == tonumber(taken_back) end)
end

-- items: bucket, name and version of each.
local function each_of(change, collection, items)
  for i = 1, #items, 3 do change(collection, items[i], items[i + 1], items[i + 2]) end
end

local function enrol_each(collection, items) each_of(enrol, collection, items) end
local function withdraw_each(collection, items) each_of(withdraw, collection, items) end
local function strike_each(collection, items) each_of(strike, collection, items) end
