-- ARGV: collection, time to live in seconds, then (point id, version)... The highest version stays.
-- Versions have up to 63 bits and Lua numbers 53, so they are compared as strings: shorter is smaller, then by digits.
also_when_memory_is_full()
for i = 3, #ARGV, 2 do
  local tomb, version = P .. ':tomb:' .. ARGV[1] .. ':' .. ARGV[i], ARGV[i + 1]
  local old = redis.call('GET', tomb)
  if old and (#old > #version or (#old == #version and old > version)) then version = old end
  redis.call('SET', tomb, version, 'EX', ARGV[2])
end
return 1
