-- ARGV: lines to look at. Returns of each model with unfinished work {model, parcels, documents, tokens, held parcels,
-- microseconds for which the oldest that is due has waited, or '' where none is, tokens of paused jobs}.
local now, limit, found = now_us(), tonumber(ARGV[1]), {}

local function age_of_oldest(model)
  local oldest = math.huge
  for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':lines:' .. model, '-inf', whole(now), 'LIMIT', 0, limit)) do
    local head = redis.call('ZRANGE', waiting_of(model, job_id), 0, 0, 'WITHSCORES')
    if opens_at(model, job_id, head[1], tonumber(head[2]), now) <= now then
      oldest = math.min(oldest, tonumber(redis.call('HGET', P .. ':parcel:' .. head[1], 'accepted_at') or 'inf'))
    end
  end
  return oldest < math.huge and whole(now - oldest) or ''
end

local load = redis.call('HGETALL', P .. ':load')
local of = {}
for i = 1, #load, 2 do of[load[i]] = load[i + 1] end
for name, parcels in pairs(of) do
  local model = string.match(name, '^parcels:(.*)$')
  if model then
    table.insert(found, {model, parcels, of['documents:' .. model] or '0', of['tokens:' .. model] or '0',
      redis.call('ZCARD', P .. ':held:' .. model), age_of_oldest(model), of['paused:' .. model] or '0'})
  end
end
return found
