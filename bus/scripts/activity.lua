-- Append to the activity stream: its entries are numbered like those of an execution's log, so that their ids prove that
-- nothing lies between them.
--
-- KEYS  1 the stream
-- ARGV  1 most entries, then for each entry its time and its JSON
-- Reply the id of the last one
local stream = KEYS[1]
local time = redis.call('TIME')
local ms, n = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), 0
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if last then
  local last_ms, last_n = string.match(last[1], '^(%d+)-(%d+)$')
  ms = math.max(ms, tonumber(last_ms))
  n = tonumber(last_n)
  if n == 0 then
    -- A stranger's: our numbering stands somewhere below what was ever added.
    local info = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #info, 2 do
      if info[i] == 'entries-added' then n = info[i + 1] end
    end
  end
end
local id
for at = 2, #ARGV, 2 do
  n = n + 1
  id = string.format('%.0f-%.0f', ms, n)
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[1], id, 't', 'activity', 'ts', ARGV[at], 'd', ARGV[at + 1])
end
return id
