-- Note something in a state that is there: one that has expired must not come back as a stump without a time to live.
--
-- KEYS  1 meta
-- ARGV  1 field   2 value
-- Reply 1 when it was noted
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
