-- ARGV: key of the collection, suffix of its tenant's graves, most at once. Forgets deletions of one tenant; returns how many.
local forgotten = 0
for _, day in ipairs(redis.call('SMEMBERS', P .. ':tombs:' .. ARGV[1])) do
  local tomb = P .. ':tomb:' .. day .. ':' .. ARGV[1]
  local ids = redis.call('SPOP', P .. ':graves:' .. day .. ':' .. ARGV[2], ARGV[3] - forgotten)
  for _, id in ipairs(ids) do redis.call('HDEL', tomb, id) end
  forgotten = forgotten + #ids
  if redis.call('EXISTS', tomb) == 0 then redis.call('SREM', P .. ':tombs:' .. ARGV[1], day) end
  if forgotten >= tonumber(ARGV[3]) then break end
end
return forgotten
