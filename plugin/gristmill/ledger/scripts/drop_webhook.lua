-- ARGV: webhook ids. Returns how many there were.
also_when_memory_is_full()
local dropped = 0
for _, id in ipairs(ARGV) do
  local job = redis.call('HGET', P .. ':webhook:' .. id, 'job')
  if job then note_webhook(job, 'failed') end
  dropped = dropped + drop_webhook(id)
end
return dropped
