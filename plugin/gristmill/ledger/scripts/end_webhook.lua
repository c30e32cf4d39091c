-- ARGV: webhook id, number of the attempt, what came of it ('delivered', 'waiting' or 'failed'), error, delay in microseconds.
-- Returns 1, or 0 where that attempt is not the newest one.
also_when_memory_is_full()
local webhook, now = P .. ':webhook:' .. ARGV[1], now_us()
local kept = redis.call('HMGET', webhook, 'attempts', 'job', 'url')
if kept[1] ~= ARGV[2] then return 0 end
note_webhook(kept[2], ARGV[3])
if ARGV[3] == 'delivered' then return drop_webhook(ARGV[1]) end
redis.call('HSET', webhook, 'error', ARGV[4])
if ARGV[3] == 'failed' then
  redis.call('HSET', webhook, 'failed', 1)
  send_no_more(ARGV[1], kept[3])
else
  send_webhook(ARGV[1], kept[3], now + ARGV[5], now)
end
return 1
