-- Move the jobs whose delay is over into their queue, each in one step: none is lost or doubled on the way.
--
-- KEYS  1 jobs  2 delayed: execution ids by when they are due, Unix milliseconds
-- ARGV  1 how many at most
-- Reply {execution id, its entry's id, …}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local moved = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  moved[#moved + 1] = id
  moved[#moved + 1] = redis.call('XADD', KEYS[1], '*', 'id', id)
  redis.call('ZREM', KEYS[2], id)
end
return moved
