-- Take what is due to be looked at, and put it off for a moment: other healers leave it alone meanwhile, and if this one
-- dies over it, it is due again.
--
-- KEYS  1 due: execution ids by when to look at them, Unix milliseconds
-- ARGV  1 how many at most   2 how long to put them off, milliseconds
-- Reply their ids, the longest due first
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ids = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), id)
end
return ids
