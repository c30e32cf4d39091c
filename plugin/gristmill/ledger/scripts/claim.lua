-- ARGV: parcel id, token, lease in microseconds. Returns {body, attempts spent, last error}, or 'gone', or 'held'.
local parcel = P .. ':parcel:' .. ARGV[1]
local state = redis.call('HMGET', parcel, 'body', 'token', 'attempts', 'error')
if not state[1] then return 'gone' end
-- The answer to a first try may have been lost on the way: the same token gets the same answer.
if state[2] == ARGV[2] then return {state[1], state[3], state[4] or ''} end
local now = now_us()
local lease_end = tonumber(redis.call('ZSCORE', P .. ':held', ARGV[1]) or '0')
if state[2] ~= '' and lease_end > now then return 'held' end
redis.call('HSET', parcel, 'token', ARGV[2])
redis.call('ZREM', P .. ':waiting', ARGV[1])
redis.call('ZADD', P .. ':held', string.format('%.0f', now + ARGV[3]), ARGV[1])
return {state[1], state[3], state[4] or ''}
