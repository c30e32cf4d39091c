-- ARGV: job id. Its lines are in the fair queue again. Returns {model, parcels that wait for it, …}, or 0 where it is unknown or
-- over.
also_when_memory_is_full()
if not may_be_steered(ARGV[1]) then return 0 end
pause_no_more(ARGV[1])
local now, waiting = now_us(), {}
for _, model in ipairs(models_with_work()) do
  if redis.call('ZSCORE', P .. ':lines:' .. model, ARGV[1]) then
    realign(model, ARGV[1], now, '')
    table.insert(waiting, model)
    table.insert(waiting, redis.call('ZCARD', waiting_of(model, ARGV[1])))
  end
end
return waiting
