-- How far one group of readers has come in one execution's log, and which of them reads it.
--
-- KEYS  1 the bookmark
-- ARGV  1 'open' | 'move' | 'close' | 'end'   2 reader   3 how long it is the reader's, milliseconds   4 TTL, seconds
--       5 cursor ('' for where it is); opening: the id of an entry that there is
-- Reply open: {cursor, 1 when the reader before has let go without closing it}; else 1
-- Errors  HELD <reader> · LOST <reader> · READ to its end
local action, reader = ARGV[1], ARGV[2]
local state = redis.call('HMGET', KEYS[1], 'reader', 'until', 'cursor', 'ended')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local till = string.format('%.0f', now + tonumber(ARGV[3]))
local reply = 1

local function is_after(id, other)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_n = string.match(other or '', '^(%d+)-(%d+)$')
  if not (ms and other_ms) then return false end
  ms, n, other_ms, other_n = tonumber(ms), tonumber(n), tonumber(other_ms), tonumber(other_n)
  return ms > other_ms or (ms == other_ms and n > other_n)
end

if action == 'open' then
  -- A failover may take an ending back: then the log goes on behind it.
  if state[4] and not is_after(ARGV[5], state[3]) then return redis.error_reply('READ to its end') end
  redis.call('HDEL', KEYS[1], 'ended')
  if state[1] and state[1] ~= reader and tonumber(state[2]) > now then return redis.error_reply('HELD ' .. state[1]) end
  redis.call('HSET', KEYS[1], 'reader', reader, 'until', till)
  reply = {state[3] or '', state[1] and 1 or 0}
else
  -- One that is gone was flushed, or lost by a failover: no other reader has taken it.
  if state[1] ~= reader and redis.call('EXISTS', KEYS[1]) == 1 then
    return redis.error_reply('LOST ' .. (state[1] or ''))
  end
  if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'cursor', ARGV[5]) end
  if action == 'move' then
    redis.call('HSET', KEYS[1], 'reader', reader, 'until', till)
  else
    redis.call('HDEL', KEYS[1], 'reader', 'until')
    if action == 'end' then redis.call('HSET', KEYS[1], 'ended', 1) end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return reply
