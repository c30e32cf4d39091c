-- What each tenant has unfinished, and how much that may be. It is counted parcel by parcel: each knows how much of it is whose.
local MEASURES = {'documents', 'tokens', 'bytes'}

local function work_of(tenant)
  local kept, found = redis.call('HGET', P .. ':tenants', tenant) or '0 0 0', {}
  for amount in string.gmatch(kept, '%S+') do table.insert(found, tonumber(amount)) end
  return found
end

-- shares: JSON of {tenant: [documents, tokens, bytes]}, or '' where nobody is named.
local function count_shares(shares, sign)
  if not shares or shares == '' then return end
  for tenant, share in pairs(cjson.decode(shares)) do
    local work = work_of(tenant)
    for i = 1, 3 do work[i] = whole(work[i] + sign * share[i]) end
    if tonumber(work[1]) > 0 then
      redis.call('HSET', P .. ':tenants', tenant, table.concat(work, ' '))
    else
      redis.call('HDEL', P .. ':tenants', tenant)
    end
  end
end

local function limits_of(tenant, defaults)
  local own = redis.call('HMGET', P .. ':limits', 'documents:' .. tenant, 'tokens:' .. tenant, 'bytes:' .. tenant)
  for i = 1, 3 do own[i] = tonumber(own[i] or defaults[i]) end
  return own
end

-- Returns {tenant, measure, limit, what it has} of one that would have more than it may; nil where none would. A document that is
-- above a limit by itself comes in when nothing else of its tenant is there.
local function above_limit(shares, defaults)
  for tenant, share in pairs(shares) do
    local work, limits = work_of(tenant), limits_of(tenant, defaults)
    for i, measure in ipairs(MEASURES) do
      local limit = limits[i]
      local alone = work[1] == 0 and share[1] == 1 and limit ~= 0
      if limit and work[i] + share[i] > limit and not alone then
        return {tenant, measure, whole(limit), whole(work[i])}
      end
    end
  end
end

-- For people, for as long as it is news.
local function note_limited(tenant, now)
  local limited = P .. ':limited'
  redis.call('ZREMRANGEBYSCORE', limited, '-inf', whole(now - LIMITED_S * 1000000))
  redis.call('ZADD', limited, whole(now), tenant)
  redis.call('EXPIRE', limited, LIMITED_S)
end
