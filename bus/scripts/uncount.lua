-- Take back the counting of an attempt that ended through no fault of the execution's, for whoever still runs it.
--
-- KEYS  1 meta
-- ARGV  1 fence
-- Reply 1 when it was taken back, 0 when somebody else runs it by now
local state = redis.call('HMGET', KEYS[1], 'fence', 'attempt', 'terminal')
if state[1] ~= ARGV[1] or state[3] or tonumber(state[2] or 0) < 1 then return 0 end
redis.call('HINCRBY', KEYS[1], 'attempt', -1)
return 1
