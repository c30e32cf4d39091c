-- Who is next: a tree of start-time fair queues, in which every child is charged for what it is given, in tokens.
--
--   model ─► priority ─► flow: a tenant, or a collection where a job is not one tenant's ─► job ─► its parcels, oldest first
--
-- A node holds those of its children that have a parcel to give, each with a start tag; the lowest goes next, and its tag grows
-- by what it was given, over its share. So of two that always have work, neither is ahead by more than a parcel of each. Who comes
-- starts at the node's virtual time, which is what everybody has been given by now on average, or where it stopped if that is
-- later: nobody saves up turns, nobody gains by coming again. docs/explanation/fairness.md says more; order/fair.py is the same in Python.
-- High priority starts some way before that, so that urgent work of ordinary size goes at once and as a whole; what it has used
-- up of this it gains again at the rate of its share, so nobody starves by it.
-- Whoever is alone is not charged: it and its node's virtual time would only move on together.
-- A claim takes 24 steps where one job waits and up to forty where many do, each of which grows with the logarithm of the
-- flows, and of the jobs of one.
local RANKS, SHARES = {high = '0', normal = '1', low = '2'}, {['0'] = 16, ['1'] = 4, ['2'] = 1}
-- Of whoever shares equally.
local EQUAL = 16
-- Tokens of high priority that go at once.
local LEAD = 65536

-- Lua would round the score of a zset to 14 digits.
local function exact(number)
  return string.format('%.17g', number)
end

-- Names nobody, so that nothing of a tenant who is erased stays behind in it.
local function flow_of(tenant, collection)
  local who = tenant and tenant ~= '' and 't' .. tenant or 'c' .. collection
  return string.sub(redis.sha1hex(who), 1, 16)
end

-- The nodes from the model down to the flow, and the children that lead from each to the job. Of two equal ones the older goes
-- first, so a job's name begins with its time.
local function path_of(model, job_id, collection)
  local job = redis.call('HMGET', P .. ':job:' .. job_id, 'priority', 'tenant', 'created_at', 'collection')
  local rank, flow = RANKS[job[1] or 'normal'], flow_of(job[2], job[4] or collection)
  local lane = model .. ':' .. rank
  return {model, lane, lane .. ':' .. flow}, {rank, flow, (job[3] or '0000000000000000') .. job_id}
end

local function job_of(child)
  return string.sub(child, 17)
end

-- How far behind a node's virtual time its children may start: at the root, by the lead.
local function margin_of(node)
  return string.find(node, ':', 1, true) and 0 or LEAD
end

-- `behind`: whoever starts at the same token as others goes after them, by the fraction of one. Jobs go by their age.
local function start(node, child, behind, lead)
  local active, spent = P .. ':fair:' .. node, P .. ':spent:' .. node
  local virtual = tonumber(redis.call('HGET', P .. ':virtual', node) or '0')
  local stopped = tonumber(redis.call('ZSCORE', spent, child) or '-inf')
  local tag = math.max(virtual - lead, stopped)
  local last = behind and redis.call('ZREVRANGEBYSCORE', active, '(' .. exact(tag + 1), exact(tag), 'WITHSCORES', 'LIMIT', 0, 1)
  if last and last[2] then tag = tonumber(last[2]) + 1 / 1024 end
  redis.call('ZADD', active, 'NX', exact(tag), child)
  redis.call('ZREM', spent, child)
end

-- Returns whether nobody is left; then the node begins anew.
local function stop(node, child)
  local active, spent = P .. ':fair:' .. node, P .. ':spent:' .. node
  local tag = redis.call('ZSCORE', active, child)
  redis.call('ZREM', active, child)
  if redis.call('EXISTS', active) == 0 then
    redis.call('DEL', spent)
    redis.call('HDEL', P .. ':virtual', node)
    return true
  end
  local virtual = tonumber(redis.call('HGET', P .. ':virtual', node) or '0')
  if tag and tonumber(tag) > virtual - margin_of(node) then redis.call('ZADD', spent, tag, child) end
  return false
end

local function enter(nodes, children)
  if redis.call('ZSCORE', P .. ':fair:' .. nodes[3], children[3]) then return end
  for tier = 1, 3 do start(nodes[tier], children[tier], tier == 2, children[tier] == RANKS.high and LEAD or 0) end
end

local function leave(nodes, children)
  for tier = 3, 1, -1 do
    if not stop(nodes[tier], children[tier]) then return end
  end
end

-- Who goes next, and its tag where there is nobody else.
local function first(node)
  local two = redis.call('ZRANGE', P .. ':fair:' .. node, 0, 1, 'WITHSCORES')
  return two[1], not two[3] and tonumber(two[2])
end

-- The path to whoever goes next, with the tags of those on it who are alone; nothing where nobody has anything to give. What
-- leads nowhere (keys deleted by hand) goes.
local function leading(model)
  local rank, of_rank = first(model)
  while rank do
    local lane = model .. ':' .. rank
    local flow, of_flow = first(lane)
    local job, of_job
    if flow then job, of_job = first(lane .. ':' .. flow) end
    if job then return {model, lane, lane .. ':' .. flow}, {rank, flow, job}, {of_rank, of_flow, of_job} end
    if flow then stop(lane, flow) else stop(model, rank) end
    rank, of_rank = first(model)
  end
end

-- `share` of the child, `shares` of all that are active.
local function charge_at(node, child, tokens, share, shares)
  local active, spent = P .. ':fair:' .. node, P .. ':spent:' .. node
  redis.call('ZADD', active, 'INCR', exact(tokens * EQUAL / share), child)
  local least = tonumber(redis.call('ZRANGE', active, 0, 0, 'WITHSCORES')[2])
  local virtual = tonumber(redis.call('HGET', P .. ':virtual', node) or '0')
  virtual = math.max(virtual + tokens * EQUAL / shares, least)
  redis.call('HSET', P .. ':virtual', node, exact(virtual))
  redis.call('ZREMRANGEBYSCORE', spent, '-inf', exact(virtual - margin_of(node)))
end

-- How many shares there are in a node, and how many of them are the child's.
local function shares_in(node, child, tier)
  if tier > 1 then return EQUAL * redis.call('ZCARD', P .. ':fair:' .. node), EQUAL end
  local shares = 0
  for _, rank in ipairs(redis.call('ZRANGE', P .. ':fair:' .. node, 0, -1)) do shares = shares + SHARES[rank] end
  return shares, SHARES[child]
end

local function charge(nodes, children, alone, tokens)
  local virtual = redis.call('HMGET', P .. ':virtual', unpack(nodes))
  for tier = 1, 3 do
    local node, tag = nodes[tier], alone[tier]
    local apart = tag and tag <= tonumber(virtual[tier] or '0') and redis.call('EXISTS', P .. ':spent:' .. node) == 0
    if not apart then
      local shares, share = shares_in(node, children[tier], tier)
      charge_at(node, children[tier], tokens, share, shares)
    end
  end
end
