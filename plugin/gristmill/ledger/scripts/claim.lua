-- ARGV: model, token, lease in microseconds, parcels that the caller has in hand, workers of the model, paused jobs that are
--       counted at most. Returns {parcel id, body, attempts spent, last error, found,
--       microseconds since it was accepted, 1 where a silent holder had it}, nothing where none is due, or {} where some wait
--       and the caller has its share.
also_when_memory_is_full()
local model, token, now = ARGV[1], ARGV[2], now_us()
local held, memo = P .. ':held:' .. model, P .. ':claim:' .. token

local function read(id)
  return redis.call('HMGET', P .. ':parcel:' .. id, 'body', 'attempts', 'error', 'found', 'accepted_at', 'token')
end

local function answer(id, kept, taken_over)
  return {id, kept[1], kept[2], kept[3] or '', kept[4] or '', math.max(0, now - (kept[5] or now)), taken_over and 1 or 0}
end

-- The answer to a first try may have been lost on the way: the same token gets the same answer.
local given = redis.call('GET', memo)
if given and holds(P .. ':parcel:' .. given, token) then return answer(given, read(given)) end

-- What waits of paused jobs is nobody's share. Of more such jobs than are counted, nobody has his.
local function has_its_share()
  local share = ARGV[4] * ARGV[5]
  if ARGV[4] == '0' or ARGV[5] == '1' then return false end
  local out = redis.call('ZCARD', held)
  local waiting = tonumber(redis.call('HGET', P .. ':load', 'parcels:' .. model) or '0') - out
  local paused = redis.call('SRANDMEMBER', P .. ':paused', ARGV[6] + 1)
  if #paused > tonumber(ARGV[6]) then return false end
  for _, job_id in ipairs(paused) do waiting = waiting - redis.call('ZCARD', waiting_of(model, job_id)) end
  return waiting > 0 and waiting + out <= share
end
if has_its_share() then return {} end

-- One of whose job nothing is given meanwhile goes back into its line.
local function left_by_a_silent_holder()
  while true do
    local id = redis.call('ZRANGEBYSCORE', held, '-inf', whole(now), 'LIMIT', 0, 1)[1]
    local kept = id and redis.call('HMGET', P .. ':parcel:' .. id, 'job', 'accepted_at')
    if not id or not kept[1] or not is_stopped(kept[1], id, now) then return id end
    give_back(id, tonumber(kept[2]), now)
  end
end

local id, parcel, kept, before
repeat
  id = left_by_a_silent_holder() or next_in_line(model, now)
  if not id then return false end
  parcel = P .. ':parcel:' .. id
  kept = read(id)
  before = kept[6]
  -- Deleted by hand: only its entry in the index is left.
  if not before then redis.call('ZREM', held, id) end
until before
if before ~= '' then
  redis.call('DEL', P .. ':claim:' .. before)
  note_encoded(parcel, 0, 0)
end
redis.call('HSET', parcel, 'token', token)
redis.call('ZADD', held, whole(now + ARGV[3]), id)
redis.call('SET', memo, id, 'PX', math.max(1, math.ceil(ARGV[3] / 1000)))
return answer(id, kept, before ~= '')
