-- List an execution where it was created; of too many, the oldest go.
--
-- KEYS  1 executions by the time of their creation
-- ARGV  1 execution id   2 created, Unix ms   3 most executions   4 time to live, seconds
-- Reply 1
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
-- Cutting off costs as much as writing: a few at a time, since the bound need not be exact.
local most = tonumber(ARGV[3])
if redis.call('ZCARD', KEYS[1]) > most + math.floor(most / 1000) then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
