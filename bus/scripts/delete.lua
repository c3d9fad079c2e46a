-- Forget an execution that has ended, in one step: its log, its state and all that hangs on them.
--
-- KEYS  1 log  2 meta  3 control  4 checkpoints  5… bookmarks of groups
-- ARGV  1 how long an owner of before is kept out, seconds
-- Reply its tenant and its labels ('' for none)
-- Errors  UNKNOWN · LIVE <status>
if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then return redis.error_reply('UNKNOWN execution') end
local state = redis.call('HMGET', KEYS[2], 'terminal', 'status', 'tenant', 'labels', 'fence')
if not state[1] then return redis.error_reply('LIVE ' .. (state[2] or 'unknown')) end
redis.call('UNLINK', unpack(KEYS))
-- An owner that was replaced may still live, and without a state it looks like one after a flush, who may go on.
if state[5] then
  redis.call('HSET', KEYS[4], '\31deleted', state[5])
  redis.call('EXPIRE', KEYS[4], ARGV[1])
end
return {state[3] or '', state[4] or ''}
