-- ARGV: letter id, body without the text. Nothing, where the letter was dropped meanwhile.
also_when_memory_is_full()
local letter = P .. ':letter:' .. ARGV[1]
local bytes = redis.call('HGET', letter, 'bytes')
if not bytes then return 0 end
local saved = allocated(redis.call('HSTRLEN', letter, 'body')) - allocated(#ARGV[2])
redis.call('HSET', letter, 'body', ARGV[2], 'bytes', bytes - saved)
redis.call('HINCRBY', P .. ':load', 'dead_bytes', -saved)
return 1
