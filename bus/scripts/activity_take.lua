-- Take changes that no consumer of the group had yet, and tell from where on the group reads: a reader that sees both at one
-- time can prove that nothing was trimmed before the group came to it.
--
-- KEYS  1 the activity stream
-- ARGV  1 group  2 consumer  3 how many
-- Reply {id of the last entry the group had had, entries}
-- Errors  NOGROUP …
local last = '0-0'
for _, group in ipairs(redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[1]) or {}) do
  local known = {}
  for i = 1, #group, 2 do known[group[i]] = group[i + 1] end
  if known['name'] == ARGV[1] then last = known['last-delivered-id'] end
end
local read = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
if read and read.err then return read end
return {last, read and read[1] and read[1][2] or {}}
