-- ARGV: model, token, lease in microseconds. Returns {parcel id, body, attempts spent, last error, found},
--       or nothing where none is due.
also_when_memory_is_full()
local model, token, now = ARGV[1], ARGV[2], now_us()
local held, turns, memo = P .. ':held:' .. model, P .. ':turns:' .. model, P .. ':claim:' .. token

local function answer(id)
  local kept = redis.call('HMGET', P .. ':parcel:' .. id, 'body', 'attempts', 'error', 'found')
  return {id, kept[1], kept[2], kept[3] or '', kept[4] or ''}
end

-- The answer to a first try may have been lost on the way: the same token gets the same answer.
local given = redis.call('GET', memo)
if given and holds(P .. ':parcel:' .. given, token) then return answer(given) end

local function left_by_a_silent_holder()
  return redis.call('ZRANGEBYSCORE', held, '-inf', whole(now), 'LIMIT', 0, 1)[1]
end

-- The next parcel of the collection whose turn it is, which then goes to the back; one without anything due steps aside.
local function next_in_line()
  while true do
    local collection = redis.call('ZRANGEBYSCORE', turns, '-inf', whole(now), 'LIMIT', 0, 1)[1]
    if not collection then return nil end
    local waiting = P .. ':waiting:' .. model .. ':' .. collection
    local first = redis.call('ZRANGE', waiting, 0, 1, 'WITHSCORES')
    local is_due, due_next = first[2] and tonumber(first[2]) <= now, first[2]
    if is_due then
      redis.call('ZREM', waiting, first[1])
      due_next = first[4]
    end
    if due_next then
      redis.call('ZADD', turns, whole(math.max(now, due_next, rests_until(model, collection))), collection)
    else
      redis.call('ZREM', turns, collection)
    end
    if is_due then return first[1] end
  end
end

local id, parcel, before
repeat
  id = left_by_a_silent_holder() or next_in_line()
  if not id then return false end
  parcel = P .. ':parcel:' .. id
  before = redis.call('HGET', parcel, 'token')
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
return answer(id)
