-- Forget consumers that hold nothing and have not been seen for a while. In one step: a consumer that takes an entry in between
-- would lose it.
--
-- KEYS  1 the stream
-- ARGV  1 group   2 idle for so long, milliseconds
-- Reply how many were forgotten
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local forgotten = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end
for _, consumer in ipairs(consumers) do
  local known = {}
  for i = 1, #consumer, 2 do known[consumer[i]] = consumer[i + 1] end
  if known['pending'] == 0 and known['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], known['name'])
    forgotten = forgotten + 1
  end
end
return forgotten
