-- ARGV: webhook ids. Each is sent anew, with all its attempts before it. Returns how many there were.
also_when_memory_is_full()
local sent, now = 0, now_us()
for _, id in ipairs(ARGV) do
  local webhook = P .. ':webhook:' .. id
  local kept = redis.call('HMGET', webhook, 'job', 'url')
  if kept[1] then
    redis.call('HDEL', webhook, 'failed')
    redis.call('HSET', webhook, 'attempts', 0)
    note_webhook(kept[1], 'waiting')
    send_webhook(id, kept[2], now, now)
    sent = sent + 1
  end
end
return sent
