-- Take from a token bucket: it fills at a rate, holds a burst, and gives all or nothing.
--
-- KEYS  1 bucket
-- ARGV  1 rate, a second   2 burst   3 how much is wanted (no more than the burst)
-- Reply 0 when it was given, else after how many milliseconds it could be
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bucket = redis.call('HMGET', KEYS[1], 'left', 'ms')
local left, before = tonumber(bucket[1]), tonumber(bucket[2])
if left and before then
  if now < before then
    -- A failover may set the clock back: from here on it fills by the new one.
    redis.call('HSET', KEYS[1], 'ms', now)
    before = now
  end
  left = math.min(burst, left + (now - before) * rate / 1000)
else
  left = burst
end
local missing = wanted - left
if missing > 0 then return math.ceil(missing * 1000 / rate) end
redis.call('HSET', KEYS[1], 'left', tostring(left - wanted), 'ms', now)
-- Full again, it is as if it had never been.
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - left + wanted) * 1000 / rate) + 1000)
return 0
