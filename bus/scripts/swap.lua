-- Compare and set: of many who saw the same, one succeeds.
--
-- KEYS  1 what is set
-- ARGV  1 what the caller saw in it ('' for nothing)   2 what to set   3 time to live, seconds
-- Reply what it holds now
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return ARGV[2]
