-- Let a submission that was refused after it was noted be forgotten soon, unless it has been queued after all.
--
-- KEYS  1 meta
-- ARGV  1 seconds
-- Reply 1 when it is to be forgotten
if redis.call('HEXISTS', KEYS[1], 'status') == 1 then return 0 end
return redis.call('EXPIRE', KEYS[1], ARGV[1])
