-- ARGV: worker id, JSON of its status, time to live in milliseconds, seconds for which a rate is remembered, then of each of its
-- models: digest, tokens per second or '', 1 while it loads the model or 0.
also_when_memory_is_full()
local id, ttl, now, index = ARGV[1], tonumber(ARGV[3]), now_us(), P .. ':workers'

-- Among living workers, until it is not heard of for so long.
local function enlist(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
  redis.call('ZADD', key, whole(now + ttl * 1000), id)
  redis.call('PEXPIRE', key, math.max(ttl, redis.call('PTTL', key)))
end

-- Of one worker: the mean of those who have said one and are heard of, whoever speaks last. Remembered when none is.
local function note_rate(model, rate)
  local rates, sum, heard = P .. ':rates:' .. model, 0, 0
  redis.call('HSET', rates, id, whole(now + ttl * 1000) .. ' ' .. rate)
  local said = redis.call('HGETALL', rates)
  for i = 1, #said, 2 do
    local ends, each = string.match(said[i + 1], '^(%d+) (.+)$')
    if tonumber(ends) > now then
      sum, heard = sum + each, heard + 1
    else
      redis.call('HDEL', rates, said[i])
    end
  end
  redis.call('PEXPIRE', rates, math.max(ttl, redis.call('PTTL', rates)))
  redis.call('SET', P .. ':rate:' .. model, sum / heard, 'EX', ARGV[4])
end

redis.call('SET', P .. ':worker:' .. id, ARGV[2], 'PX', ttl)
enlist(index)
for i = 5, #ARGV, 3 do
  local model, loading = ARGV[i], P .. ':loading:' .. ARGV[i]
  if ARGV[i + 1] ~= '' then note_rate(model, ARGV[i + 1]) end
  if ARGV[i + 2] == '1' then enlist(loading) else redis.call('ZREM', loading, id) end
  count_seconds(model)
end
return 1
