-- A line is one job's parcels that wait for one model, by when they are due. It is in the fair queue while its first parcel may
-- be claimed as far as is known; one that may not is put off until then when it is about to be given.
local function waiting_of(model, job_id)
  return P .. ':waiting:' .. model .. ':' .. job_id
end

local function rests_until(model, collection)
  return tonumber(redis.call('GET', P .. ':rest:' .. model .. ':' .. collection) or '0')
end

-- Whether somebody has begun to write a parcel, or to delete, lately: of a copy of Redis that is older nothing need be ended.
local function is_begun(parcel_id, now)
  return tonumber(redis.call('HGET', P .. ':parcel:' .. parcel_id, 'begun') or '0') > now - BEGUN_S * 1000000
end

-- Whether nothing is given of a parcel's job. Of a cancelled one a parcel that has been begun is.
local function is_stopped(job_id, parcel_id, now)
  local state = redis.call('HMGET', P .. ':job:' .. job_id, 'paused', 'cancelled_at')
  return state[1] or (state[2] and not is_begun(parcel_id, now))
end

local function may_be_steered(job_id)
  local state = redis.call('HMGET', P .. ':job:' .. job_id, 'created_at', 'finished_at', 'cancelled_at')
  return state[1] and not state[2] and not state[3]
end

-- When the first parcel of a line may be claimed.
local function opens_at(model, job_id, parcel_id, due, now)
  if is_stopped(job_id, parcel_id, now) then return math.huge end
  local collection = redis.call('HGET', P .. ':parcel:' .. parcel_id, 'collection')
  return collection and math.max(due, rests_until(model, collection)) or due
end

local function put_off(model, job_id, until_when)
  redis.call('ZADD', P .. ':later:' .. model, exact(until_when), job_id)
end

-- What the line's first parcel is has changed.
local function realign(model, job_id, now, collection)
  local head = redis.call('ZRANGE', waiting_of(model, job_id), 0, 0, 'WITHSCORES')
  if not head[1] then
    redis.call('ZREM', P .. ':lines:' .. model, job_id)
    redis.call('ZREM', P .. ':later:' .. model, job_id)
    return leave(path_of(model, job_id, collection))
  end
  redis.call('ZADD', P .. ':lines:' .. model, head[2], job_id)
  if tonumber(head[2]) > now then return put_off(model, job_id, head[2]) end
  redis.call('ZREM', P .. ':later:' .. model, job_id)
  enter(path_of(model, job_id, collection))
end

local function wait_in_line(id, job_id, model, collection, due, now)
  redis.call('ZADD', waiting_of(model, job_id), whole(due), id)
  realign(model, job_id, now, collection)
end

local function step_out(id, job_id, model, collection, now)
  if redis.call('ZREM', waiting_of(model, job_id), id) == 1 then realign(model, job_id, now, collection) end
end

local function realign_all(job_id, now)
  for _, model in ipairs(models_with_work()) do
    if redis.call('ZSCORE', P .. ':lines:' .. model, job_id) then realign(model, job_id, now, '') end
  end
end

-- Whose the job is, or nil for nobody known; its lines stand where their owner's do.
local function own(job_id, tenant, now)
  local job, moved = P .. ':job:' .. job_id, {}
  for _, model in ipairs(models_with_work()) do
    if redis.call('ZSCORE', P .. ':lines:' .. model, job_id) then
      leave(path_of(model, job_id, ''))
      table.insert(moved, model)
    end
  end
  if tenant then redis.call('HSET', job, 'tenant', tenant) else redis.call('HDEL', job, 'tenant') end
  for _, model in ipairs(moved) do realign(model, job_id, now, '') end
end

-- Lines that were put off until now: a hundred in one go, the others with the next ones.
local function wake(model, now)
  local later = P .. ':later:' .. model
  for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', whole(now), 'LIMIT', 0, 100)) do
    redis.call('ZREM', later, job_id)
    enter(path_of(model, job_id, ''))
  end
end

-- Takes the next parcel out of its line, and charges for it.
local function next_in_line(model, now)
  wake(model, now)
  while true do
    local nodes, children, alone = leading(model)
    if not nodes then return nil end
    local job_id = job_of(children[3])
    local waiting = waiting_of(model, job_id)
    local two = redis.call('ZRANGE', waiting, 0, 1, 'WITHSCORES')
    local opens = two[1] and opens_at(model, job_id, two[1], tonumber(two[2]), now)
    if not opens then
      redis.call('ZREM', P .. ':lines:' .. model, job_id)
      leave(nodes, children)
    elseif opens > now then
      put_off(model, job_id, opens)
      leave(nodes, children)
    else
      redis.call('ZREM', waiting, two[1])
      charge(nodes, children, alone, tonumber(redis.call('HGET', P .. ':parcel:' .. two[1], 'tokens') or '1'))
      if two[3] then
        redis.call('ZADD', P .. ':lines:' .. model, two[4], job_id)
        if tonumber(two[4]) > now then put_off(model, job_id, two[4]) end
      else
        redis.call('ZREM', P .. ':lines:' .. model, job_id)
      end
      if not two[3] or tonumber(two[4]) > now then leave(nodes, children) end
      return two[1]
    end
  end
end
