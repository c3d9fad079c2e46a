-- Store what a step gave, in one step with its time to live, and only for whoever runs the execution now.
--
-- KEYS  1 meta  2 checkpoints
-- ARGV  1 fence   2 live TTL, seconds   3 step   4 msgpack of its output
-- Reply 1
-- Errors  CLOSED <terminal id> · FENCED <current fence>
local state = redis.call('HMGET', KEYS[1], 'terminal', 'fence')
if state[1] then return redis.error_reply('CLOSED ' .. state[1]) end
if state[2] and tonumber(ARGV[1]) < tonumber(state[2]) then
  return redis.error_reply('FENCED ' .. state[2])
end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
