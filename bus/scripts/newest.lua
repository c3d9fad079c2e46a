-- The cursor after which a log has its newest entries, found where the entries are: nothing but an id leaves Redis.
--
-- KEYS  1 log
-- ARGV  1 how many entries   2 the last id that counts ('+' for any)
-- Reply the id; '0-0' for a log that has no more than that
--
-- Entries are numbered, so where as many are there as the numbers say, the id is found by bisecting the time: some
-- thirty reads of one entry. Where other programs have written, or entries were deleted, it is counted down to.
local log, count, last = KEYS[1], tonumber(ARGV[1]), ARGV[2]

local function parts(entries)
  if not entries[1] then return nil end
  local ms, n = string.match(entries[1][1], '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(n), entries[1][1]
end

local first_ms, first_n = parts(redis.call('XRANGE', log, '-', '+', 'COUNT', 1))
local last_ms, last_n, last_id = parts(redis.call('XREVRANGE', log, last, '-', 'COUNT', 1))
if not last_ms then return '0-0' end

local length = redis.call('XLEN', log)
local wanted = last_n - count
if length == last_n - first_n + 1 and first_n > 0 then
  if wanted < first_n then return '0-0' end
  -- The latest millisecond whose first entry has a number up to the wanted one.
  local low, high = first_ms, last_ms
  while low < high do
    local middle = math.floor((low + high + 1) / 2)
    local _, n = parts(redis.call('XRANGE', log, string.format('%.0f-0', middle), '+', 'COUNT', 1))
    if n <= wanted then low = middle else high = middle - 1 end
  end
  local id = string.format('%.0f-%.0f', low, wanted)
  if redis.call('XRANGE', log, id, id)[1] then return id end
end

local at, left = last_id, count
local bite = 16
while left > 0 do
  local entries = redis.call('XREVRANGE', log, at, '-', 'COUNT', math.min(bite, left) + 1)
  if #entries <= math.min(bite, left) then return '0-0' end
  left = left - (#entries - 1)
  at = entries[#entries][1]
end
return at
