-- Give an execution without a tenant to a tenant, and labels to one that has none.
--
-- KEYS  1 log  2 meta
-- ARGV  1 tenant ('' for none)   2 TTL, seconds   3 labels ('' for none)
-- Reply the tenant that has it now; '' when it is there and no tenant's
local tenant = redis.call('HGET', KEYS[2], 'tenant')
if ARGV[1] ~= '' and tenant and tenant ~= ARGV[1] then return tenant end
local known = redis.call('EXISTS', KEYS[1], KEYS[2]) > 0
if ARGV[1] ~= '' and not tenant then
  if known then return '' end
  redis.call('HSET', KEYS[2], 'tenant', ARGV[1])
end
if ARGV[3] ~= '' then redis.call('HSETNX', KEYS[2], 'labels', ARGV[3]) end
if not known then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
return tenant or ARGV[1]
