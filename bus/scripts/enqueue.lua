-- Put a job into a queue: at once, or when its delay is over by Redis's clock.
--
-- KEYS  1 jobs  2 delayed: execution ids by when they are due, Unix milliseconds
-- ARGV  1 execution id   2 delay, milliseconds
-- Reply the entry's id; '' when it is delayed
if tonumber(ARGV[2]) == 0 then
  return redis.call('XADD', KEYS[1], '*', 'id', ARGV[1])
end
local time = redis.call('TIME')
local due = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[1])
return ''
