-- Append a batch of one producer's events to an execution's log: number, deduplicate, fence, trim, close and
-- refresh the time to live in one step, so that no crash leaves a key without a TTL or a closed log open.
--
-- KEYS  1 log  2 meta  3 control: a copy of every request, for the owner  4 checkpoints (shares the TTL)
-- ARGV  1 producer ('' for none)   2 sequence number of the first event   3 fence and secret, as '7:0f1e…' ('' for none)
--       4 most entries  5 most bytes  6 TTL while live, seconds  7 TTL of the log once ended  8 TTL of the state once ended
--       9 how many events   10 '1' when there are events of the life cycle among them
--       then for each: how many strings follow, and these: field, value, field, value, … with the type first
-- Reply {ms, n of the last entry written, how many of the batch were written now}
-- Errors  CLOSED <terminal id> · FENCED · ILLEGAL <status> <type> · EXHAUSTED <last id> · PRODUCERS <limit> ·
--         UNANSWERED <limit>
-- The state machine (bus/model/lifecycle.py): 'status|type' to the next status, '*' behind it when anybody may ask for it. Made
-- only for events of the life cycle: a table a call would cost every other append more than its own XADD.
local function transitions()
  return --@transitions
end
local ENDED = {completed = true, failed = true, cancelled = true, timed_out = true}
local ANSWERS = {['execution.paused'] = true, ['execution.resumed'] = true, ['execution.signalled'] = true}
local MAX_REQUESTS = 1024
-- Producers of one kind: strangers, owners ('o') and those who ask for something ('c'). Strangers beyond the limit are
-- refused. Owners and requests never are: of each kind, an eighth that has been quiet for longest is forgotten.
local MAX_PRODUCERS = 1024
local COUNTER = {[''] = 'producers', o = 'owner_producers', c = 'control_producers'}
-- Lua's numbers are exact up to 2^53 only; an id up there was not written by any clock.
local MAX_DIGITS = 15
local log, meta = KEYS[1], KEYS[2]
local producer, count = ARGV[1], tonumber(ARGV[9])
local slot = 'p:' .. producer
local state = redis.call('HMGET', meta, 'n', 'ms', 'terminal', 'fence', 'unchecked', 'producers', 'created', slot, 'secret')

-- A batch whose reply was lost comes again: what is there already is dropped, even if the log has closed since.
local skip, last = 0, 0
if producer ~= '' then
  local first = tonumber(ARGV[2])
  if state[8] then
    local seq, ms, n = string.match(state[8], '^(%d+):(%d+)-(%d+)%a?$')
    last = tonumber(seq)
    if first + count - 1 <= last then
      return {ms, tonumber(n), 0}
    end
    skip = math.max(0, last - first + 1)
  end
end

if state[3] then
  return redis.error_reply('CLOSED ' .. state[3])
end
-- Fences order owners, secrets identify them: after a rewind two may hold the same number.
local fence, secret
if ARGV[3] ~= '' then
  fence, secret = string.match(ARGV[3], '^(%d+):(%w*)$')
  local known = tonumber(state[4] or 0)
  if not state[4] then
    -- As delete.lua leaves it.
    local deleted = redis.pcall('HGET', KEYS[4], '\31deleted')
    if type(deleted) == 'string' then known = (tonumber(deleted) or 0) + 1 end
  end
  if not fence or tonumber(fence) < known or (tonumber(fence) == known and state[9] and secret ~= state[9]) then
    return redis.error_reply('FENCED by another')
  end
end

local changes = {}
local function set(field, value)
  changes[#changes + 1] = field
  changes[#changes + 1] = value
end

-- Never shortens: one that has no TTL yet says -1. GT would leave that one without, and Redis 6 does not know it.
local function keep(key, seconds)
  if redis.call('TTL', key) < seconds then redis.call('EXPIRE', key, seconds) end
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms = math.max(now_ms, tonumber(state[2] or 0))
local n = tonumber(state[1] or 0)
if not state[1] then
  -- No state, or it was evicted: the numbering goes on from what the log shows.
  local tail = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  if tail then
    local digits = string.match(tail[1], '-(%d+)$')
    n = #digits <= MAX_DIGITS and tonumber(digits) or 0
    if n > 0 then last = nil end
  end
end
if producer ~= '' and last and tonumber(ARGV[2]) > last + 1 then
  -- What this producer had appended is gone: flushed, or rewound by a failover. A number is left out, so that every
  -- reader is told of a hole here; and a millisecond, so that no id of what is gone is given out again within it. Once:
  -- what leaves numbers out again and again must not push the ids into the future.
  n = n + 1
  if ms <= now_ms then ms = now_ms + 1 end
end
local bytes, status = tonumber(state[5] or 0), nil
local requests, waiting, asking = {}, nil, 0
-- Requests that no owner has answered; a cancellation's answer is the ending.
local unanswered, asked = nil, 0
if ARGV[10] ~= '' then
  local next_of = transitions()
  -- Of an execution that never had an owner, any producer is one.
  local owner = ARGV[3] ~= '' or not state[4]
  local known = redis.call('HGET', meta, 'status')
  -- Any other word a stranger wrote; so did one who wrote of an ending, of which there would be the terminal entry.
  local now = known and next_of[known .. '|execution.cancel_requested'] and known or 'none'
  local at = 11
  for index = 1, count do
    local event_type = ARGV[at + 2]
    if index > skip and string.sub(event_type, 1, 10) == 'execution.' then
      local to = next_of[now .. '|' .. event_type]
      local anybody = to and string.sub(to, -1) == '*'
      if not to or not (owner or anybody) then
        return redis.error_reply('ILLEGAL ' .. now .. ' ' .. event_type)
      end
      if anybody then asking = asking + 1 end
      now = anybody and string.sub(to, 1, -2) or to
      status = now
      requests[index] = string.sub(event_type, -10) == '_requested' or nil
      if requests[index] and event_type ~= 'execution.cancel_requested' then
        asked = asked + 1
      elseif ANSWERS[event_type] then
        asked = asked - 1
      end
      if event_type == 'execution.queued' or event_type == 'execution.retrying' then
        waiting = true
      elseif not anybody and event_type ~= 'execution.signalled' then
        waiting = false
      end
    end
    at = at + ARGV[at] + 1
  end
  if next(requests) then
    local kind = redis.call('TYPE', KEYS[3]).ok
    if kind ~= 'stream' and kind ~= 'none' then
      return redis.error_reply('WRONGTYPE the control stream of this execution holds a ' .. kind)
    end
  end
  if asked ~= 0 then
    unanswered = math.max(0, tonumber(redis.call('HGET', meta, 'unanswered') or 0) + asked)
    -- The stream keeps no more of them: one more would push out one that no owner has seen.
    if asked > 0 and unanswered > MAX_REQUESTS then
      return redis.error_reply('UNANSWERED ' .. MAX_REQUESTS)
    end
  end
end
local kind, producers = '', nil
if producer ~= '' then
  if state[8] then
    kind = string.match(state[8], '%a?$')
  else
    kind = fence and 'o' or asking == count - skip and 'c' or ''
    producers = tonumber((kind == '' and state[6] or kind ~= '' and redis.call('HGET', meta, COUNTER[kind])) or 0) + 1
    if kind == '' and producers > MAX_PRODUCERS then
      return redis.error_reply('PRODUCERS ' .. MAX_PRODUCERS)
    end
  end
end
local terminal = status and ENDED[status]
-- The ending pushes out nothing of what it ends.
local most_entries = tonumber(ARGV[4]) + (terminal and 1 or 0)
local at = 11
local id
local stem = string.format('%.0f-', ms)
for index = 1, count do
  local width = tonumber(ARGV[at])
  if index > skip then
    n = n + 1
    id = stem .. string.format('%.0f', n)
    -- Trimming once a batch is enough: the bound is approximate anyway.
    local reply
    if index == count then
      reply = redis.pcall('XADD', log, 'MAXLEN', '~', most_entries, id, unpack(ARGV, at + 1, at + width))
    else
      reply = redis.pcall('XADD', log, id, unpack(ARGV, at + 1, at + width))
    end
    if type(reply) == 'table' and reply.err then
      -- A string on every server; fakeredis gives an object.
      local said = tostring(reply.err)
      local taken = string.find(said, 'equal or smaller', 1, true) or string.find(said, 'last possible ID', 1, true)
      if index > skip + 1 or not taken then
        return reply
      end
      -- A stranger's entry stands at or above our id: go on in the first millisecond that has room for our number.
      local last
      local info = redis.call('XINFO', 'STREAM', log)
      for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then last = info[i + 1] end
      end
      local last_ms, last_n = string.match(last, '^(%d+)-(%d+)$')
      if #last_ms > MAX_DIGITS then
        return redis.error_reply('EXHAUSTED ' .. last)
      end
      ms = tonumber(last_ms)
      if #last_n > MAX_DIGITS or tonumber(last_n) >= n then ms = ms + 1 end
      stem = string.format('%.0f-', ms)
      id = stem .. string.format('%.0f', n)
      if index == count then
        redis.call('XADD', log, 'MAXLEN', '~', most_entries, id, unpack(ARGV, at + 1, at + width))
      else
        redis.call('XADD', log, id, unpack(ARGV, at + 1, at + width))
      end
    end
    if requests[index] then
      redis.call('XADD', KEYS[3], 'MAXLEN', '~', MAX_REQUESTS, '*', 'r', id, unpack(ARGV, at + 1, at + width))
    end
    -- The data, what stands before it, and about what the rest takes: it only says when to look.
    bytes = bytes + #ARGV[at + width] + #ARGV[at + width - 2] + 64
  end
  at = at + width + 1
end

local ms_text = string.format('%.0f', ms)
set('n', n)
set('ms', ms_text)
if fence and (fence ~= state[4] or not state[9]) then
  -- A newer fence than the state knows: it was flushed, or rewound by a failover. Older owners stay shut out.
  set('fence', fence)
  if secret ~= '' then set('secret', secret) end
end
if producer ~= '' then
  set(slot, string.format('%.0f:%s%s', tonumber(ARGV[2]) + count - 1, id, kind))
  if producers and producers > MAX_PRODUCERS then
    local all, quiet = redis.call('HGETALL', meta), {}
    for i = 1, #all, 2 do
      if string.sub(all[i], 1, 2) == 'p:' and string.sub(all[i + 1], -1) == kind then
        quiet[#quiet + 1] = {all[i], tonumber(string.match(all[i + 1], '-(%d+)%a$'))}
      end
    end
    table.sort(quiet, function(a, b) return a[2] < b[2] end)
    local room = math.max(0, math.min(#quiet, #quiet - MAX_PRODUCERS * 7 / 8 + 1))
    for i = 1, room do redis.call('HDEL', meta, quiet[i][1]) end
    producers = #quiet - room + 1
  end
  if producers then set(COUNTER[kind], producers) end
end
if not state[7] then set('created', ms_text) end
if status == 'running' then redis.call('HSETNX', meta, 'started', ms_text) end

-- The bound in bytes is kept by the memory the log really takes, strangers' entries included; looking is dear, so
-- it is done once for every sixteenth of the bound that was appended.
local most_bytes = tonumber(ARGV[5])
if bytes * 16 > most_bytes then
  bytes = 0
  for _ = 1, 8 do
    local used = redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 0)
    if used <= most_bytes then break end
    local length = redis.call('XLEN', log)
    if length <= 1 then break end
    redis.call('XTRIM', log, 'MAXLEN', math.max(1, math.floor(length * most_bytes / used * 0.9)))
  end
end
set('unchecked', bytes)
if unanswered then set('unanswered', unanswered) end

if status then set('status', status) end
-- One that was paused stays so while it waits for its next worker: the status alone would not tell it from a lost one.
if waiting then
  set('waiting', 1)
elseif waiting == false then
  redis.call('HDEL', meta, 'waiting')
end
if terminal then
  set('terminal', id)
  set('ended', ms_text)
end
redis.call('HSET', meta, unpack(changes))
if terminal then
  redis.call('HDEL', meta, 'owner', 'lease_until', 'lost', 'waiting', 'session')
  redis.call('EXPIRE', log, ARGV[7])
  redis.call('EXPIRE', meta, ARGV[8])
  redis.call('EXPIRE', KEYS[3], ARGV[7])
  redis.call('EXPIRE', KEYS[4], ARGV[8])
else
  -- All of it lives as long as the longest: what waits for a delay of days is kept until then, requests included.
  local ttl = math.max(tonumber(ARGV[6]), redis.call('TTL', meta))
  keep(log, ttl)
  keep(meta, ttl)
  if next(requests) then keep(KEYS[3], ttl) end
end
return {ms_text, n, count - skip}
