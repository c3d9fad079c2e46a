-- Give an execution without a tenant to a tenant.
--
-- KEYS  1 log  2 meta
-- ARGV  1 tenant   2 TTL, seconds
-- Reply the tenant that has it now; '' when it is there and no tenant's
local tenant = redis.call('HGET', KEYS[2], 'tenant')
if tenant then return tenant end
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return '' end
redis.call('HSET', KEYS[2], 'tenant', ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return ARGV[1]
