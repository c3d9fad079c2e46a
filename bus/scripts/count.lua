-- Count something about an attempt, while its owner still has the lease.
--
-- KEYS  1 meta
-- ARGV  1 fence and secret, as '7:0f1e…'   2 field   3 by how much
-- Reply 1 when it was counted, 0 when somebody else runs it by now
local state = redis.call('HMGET', KEYS[1], 'fence', 'terminal', 'secret')
if (state[1] or '') .. ':' .. (state[3] or '') ~= ARGV[1] or state[2] then return 0 end
redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3])
return 1
