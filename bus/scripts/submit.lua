-- Note a submission, once. The same one again is the same execution; another one under its id is refused.
--
-- KEYS  1 log  2 meta
-- ARGV  1 fingerprint of the submission   2 live TTL, seconds   3… field, value, …
-- Reply 1 when it is new, 0 when it was there
-- Errors  EXISTS
local before = redis.call('HGET', KEYS[2], 'submitted')
if before then
  if before == ARGV[1] then return 0 end
  return redis.error_reply('EXISTS ' .. KEYS[2])
end
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return redis.error_reply('EXISTS ' .. KEYS[2]) end
redis.call('HSET', KEYS[2], 'submitted', ARGV[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
