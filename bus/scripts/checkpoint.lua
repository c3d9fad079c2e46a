-- Store what a step gave, in one step with its time to live, and only for the owner of the execution.
--
-- KEYS  1 meta  2 checkpoints
-- ARGV  1 fence and secret, as '7:0f1e…'   2 live TTL, seconds   3 field   4 its msgpack   5 most bytes of all fields   6 field to forget ('' for none)
-- Reply 1
-- Errors  CLOSED <terminal id> · FENCED · FULL <bytes it would take>
local SIZE = '\31bytes'
local state = redis.call('HMGET', KEYS[1], 'terminal', 'fence', 'secret')
if state[1] then return redis.error_reply('CLOSED ' .. state[1]) end
local fence, secret = string.match(ARGV[1], '^(%d+):(%w*)$')
-- Without a state, it may have been deleted: see delete.lua.
local known = tonumber(state[2] or (redis.call('HGET', KEYS[2], '\31deleted') or -1) + 1)
if not fence or tonumber(fence) < known or (tonumber(fence) == known and state[3] and secret ~= state[3]) then
  return redis.error_reply('FENCED by another')
end
local size = tonumber(redis.call('HGET', KEYS[2], SIZE)) or 0
size = size + #ARGV[4] - redis.call('HSTRLEN', KEYS[2], ARGV[3])
if ARGV[6] ~= '' then size = size - redis.call('HSTRLEN', KEYS[2], ARGV[6]) end
if size > tonumber(ARGV[5]) then return redis.error_reply('FULL ' .. size) end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4], SIZE, size)
if ARGV[6] ~= '' then redis.call('HDEL', KEYS[2], ARGV[6]) end
-- Never shortened, and kept for as long as the state: the next attempt may be days away.
local ttl = math.max(tonumber(ARGV[2]), redis.call('TTL', KEYS[1]))
if redis.call('TTL', KEYS[2]) < ttl then redis.call('EXPIRE', KEYS[2], ttl) end
return 1
