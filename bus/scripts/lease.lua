-- Take, renew, heal or release the lease of an execution. The fence orders owners and the secret identifies them:
-- each taking raises the fence and stores a new secret, and append.lua refuses writers that do not show both.
--
-- KEYS  1 log  2 meta  3 control  4 checkpoints
-- ARGV  1 'take' | 'renew' | 'heal' | 'release'   2 owner   3 lease, milliseconds
--       4 fence ('' when taking)   5 live TTL, seconds   6 pipeline   7 most attempts ('' where not known)
--       8 healing: from when on an owner that was told to cancel may be replaced though it lives, Unix ms ('' for never)
--       9 secret   10 session of the owner ('' for none)
--       11 '1' when an owner whose lease has run out may be replaced now   12 a session that is known to be dead ('' for none)
--       13 renewing: the status to restore where it was lost ('' for none)
--       14 releasing: '1' when its attempt is not to count; healing: '1' when what waits for a worker is an orphan if it was never submitted: no job brings one to it;
--          '2' when it has waited for too long
--       15… renewing: fields and values to restore where they were lost
-- Reply take: {fence, attempt, status, until, 1 when it waited for a worker, fields and values that say whose it is};
--       renew: {status, until};
--       heal: {fence, attempt, status, until, lost owner, most attempts, 1 when it was submitted, 1 when its owner lives};
--       release: 1
-- Errors  CLOSED <terminal id> · HELD <until> <now> <owner> · LOST · SOUND <status>
--
-- 'heal' takes the place of an owner that is gone, or that has let go without an ending, to tell what became of
-- it: no attempt is counted. A healer that dies over it is replaced in the same way; 'lost' keeps whom it stood in for.
local action, owner = ARGV[1], ARGV[2]
local belongings = {'tenant', 'labels', 'pipeline', 'created', 'max_attempts'}
local meta = KEYS[2]
local state = redis.call('HMGET', meta, 'terminal', 'owner', 'lease_until', 'fence', 'status', 'submitted',
  'max_attempts', 'waiting', 'lost', 'secret', 'session', 'attempt')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- Fences go on counting behind those of what was deleted, so that its owners stay out (delete.lua).
local deleted = not state[4] and redis.pcall('HGET', KEYS[4], '\31deleted')
deleted = type(deleted) == 'string' and tonumber(deleted)
local status = state[5] or ''
local waiting = status == 'queued' or (status == 'paused' and state[8])

if action == 'release' then
  if state[4] ~= ARGV[4] or (state[10] and state[10] ~= ARGV[9]) then return redis.error_reply('LOST to another') end
  if not state[1] and not waiting then
    redis.call('HSETNX', meta, 'lost', state[2] or owner)
    -- Once: the same may come again when its reply was lost.
    if ARGV[14] == '1' and state[2] == owner then redis.call('HINCRBY', meta, 'attempt', -1) end
  end
  redis.call('HDEL', meta, 'owner', 'lease_until', 'session')
  return 1
end
if state[1] then return redis.error_reply('CLOSED ' .. state[1]) end

local till = string.format('%.0f', now + tonumber(ARGV[3]))
local held = state[2] and state[2] ~= owner
local live = tonumber(state[3] or 0) > now
if held and not live and ARGV[11] == '1' then held = false end
if held and ARGV[12] ~= '' and state[11] == ARGV[12] then held = false end
local refusal = held and redis.error_reply('HELD ' .. (state[3] or 0) .. ' ' .. string.format('%.0f', now) .. ' ' .. state[2])
local reply
local function next_fence()
  if deleted then redis.call('HSETNX', meta, 'fence', deleted) end
  return redis.call('HINCRBY', meta, 'fence', 1)
end
if action == 'take' then
  if held then return refusal end
  reply = {next_fence(), redis.call('HINCRBY', meta, 'attempt', 1), status, till, waiting and 1 or 0}
  redis.call('HSETNX', meta, 'created', string.format('%.0f', now))
  redis.call('HDEL', meta, 'lost')
  if ARGV[6] ~= '' then redis.call('HSETNX', meta, 'pipeline', ARGV[6]) end
  if ARGV[7] ~= '' then redis.call('HSET', meta, 'max_attempts', ARGV[7]) end
  local kept = {}
  for index, value in ipairs(redis.call('HMGET', meta, unpack(belongings))) do
    if value then kept[#kept + 1], kept[#kept + 2] = belongings[index], value end
  end
  reply[6] = kept
elseif action == 'renew' then
  -- Only another owner takes a lease away. A state that was flushed, or rewound by a failover, is set right again.
  local known, ours = tonumber(state[4] or (deleted or -1) + 1), tonumber(ARGV[4])
  if known > ours or (state[2] and state[2] ~= owner) or (known == ours and state[10] and state[10] ~= ARGV[9]) then
    return redis.error_reply('LOST to another')
  end
  redis.call('HSET', meta, 'fence', ARGV[4], 'secret', ARGV[9])
  if status == '' and ARGV[13] ~= '' then
    status = ARGV[13]
    redis.call('HSET', meta, 'status', status)
  end
  if not state[12] then
    for index = 15, #ARGV, 2 do redis.call('HSETNX', meta, ARGV[index], ARGV[index + 1]) end
  end
  reply = {status, till}
else
  local stubborn = held and live and status == 'cancelling' and ARGV[8] ~= '' and now >= tonumber(ARGV[8])
  if held and not stubborn then return refusal end
  -- What waits for a worker has lost none, and what never had one (no fence was ever given out) neither; nor has what
  -- was let go before anything was said of it.
  local begun = state[4] and not waiting and (status ~= '' or state[2])
  local unsubmitted = not state[6] and (state[4] or status == 'queued')
  local forgotten = waiting and (ARGV[14] == '2' or (unsubmitted and ARGV[14] == '1'))
  if not (begun or forgotten) then return redis.error_reply('SOUND ' .. (status == '' and 'none' or status)) end
  local attempt = tonumber(redis.call('HGET', meta, 'attempt') or 0)
  local lost = state[9] or state[2] or ''
  redis.call('HSET', meta, 'lost', lost)
  reply = {next_fence(), attempt, status, till, lost, state[7] or '', state[6] and 1 or 0,
    stubborn and 1 or 0}
end
if action ~= 'renew' then redis.call('HSET', meta, 'secret', ARGV[9]) end
redis.call('HSET', meta, 'owner', owner, 'lease_until', till)
if ARGV[10] ~= '' then redis.call('HSET', meta, 'session', ARGV[10]) else redis.call('HDEL', meta, 'session') end
-- A quiet execution (a question waiting for a person) must not expire. Touching a watched key wakes its readers, so
-- the TTL is set anew only when half of it has passed.
local ttl = tonumber(ARGV[5])
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) * 2 < ttl then redis.call('EXPIRE', key, ttl) end
end
return reply
