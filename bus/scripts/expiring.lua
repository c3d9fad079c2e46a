-- Write to a key and set its time to live in one step: whoever dies between the two would leave it for ever.
--
-- KEYS  1 what is written to
-- ARGV  1 time to live, seconds   2 the command   3… its arguments behind the key
-- Reply the command's
local reply = redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return reply
