-- ARGV: key of the collection, time to live in seconds, parcel id and token of who buries or '' twice, then (point id,
--       version, what its tenant's graves are under or '')... The highest version stays. Returns 1, or 0 for who holds the
--       parcel no more.
-- One hash per day, since the fields of a hash have no time to live of their own before Redis 7.4: a tombstone lives for a day
-- more at most. Versions have up to 63 bits and Lua numbers 53, so they are compared as strings: shorter is smaller, then by
-- digits.
also_when_memory_is_full()
if ARGV[3] ~= '' then
  if not holds(P .. ':parcel:' .. ARGV[3], ARGV[4]) then return 0 end
  redis.call('HSET', P .. ':parcel:' .. ARGV[3], 'begun', whole(now_us()))
end
local index, today = P .. ':tombs:' .. ARGV[1], whole(math.floor(now_us() / 86400000000))
local days = redis.call('SMEMBERS', index)

local function buried_on(day)
  return P .. ':tomb:' .. day .. ':' .. ARGV[1]
end

local function lives_on(key)
  if redis.call('PTTL', key) < 1000 * ARGV[2] then redis.call('EXPIRE', key, ARGV[2]) end
end

for i = 5, #ARGV, 3 do
  local version = ARGV[i + 1]
  for _, day in ipairs(days) do
    local old = redis.call('HGET', buried_on(day), ARGV[i])
    if old and (#old > #version or (#old == #version and old > version)) then version = old end
  end
  redis.call('HSET', buried_on(today), ARGV[i], version)
  if ARGV[i + 2] ~= '' then
    local graves = P .. ':graves:' .. today .. ':' .. ARGV[i + 2]
    redis.call('SADD', graves, ARGV[i])
    lives_on(graves)
  end
end
for _, day in ipairs(days) do
  if redis.call('EXISTS', buried_on(day)) == 0 then redis.call('SREM', index, day) end
end
redis.call('SADD', index, today)
lives_on(buried_on(today))
lives_on(index)
return 1
