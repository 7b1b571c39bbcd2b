#!lua flags=allow-oom
-- The messages of a bucket's log that a node was not told, under whichever epochs they were written. The log has them in
-- the order in which they were written, so none after the last told one was told.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's head
-- KEYS[3]  the bucket's log
-- KEYS[4]  the log of messages to everyone; left out if the bucket has none
-- ARGV[4]  a portion, in bytes: the reply ends with the payload that makes it so many
-- ARGV[5]  entries of epochs that are not named count as told if they were written up to this instant, in ms; '' if all do
-- ARGV[6]  the version up to which the node was told everything that was still kept
-- ARGV[7] and on, two an epoch: the epoch, and the last version that the node was told under it
--
-- Reply: an array of texts: now in ms, epoch, version of the head, how many slots were ever freed in the bucket, epoch and
-- version of the last entry that was told ('' for both when there is none), then for each entry after it its version, epoch,
-- instant in ms, kind and payload ...

-- How many entries are read at a time. It is small, so that few entries are read beyond the reply.
local AT_ONCE = 32

local epoch = fence(KEYS[1])
local head = redis.call('HMGET', KEYS[2], 'v', 'f')
local portion, began, at = tonumber(ARGV[4]), tonumber(ARGV[5]) or math.huge, tonumber(ARGV[6])
local told = {}
for i = 7, #ARGV, 2 do told[ARGV[i]] = tonumber(ARGV[i + 1]) end

local function version_in(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

local function was_told(entry)
  local fields = fields_of(entry)
  if told[fields.e] then return version_in(entry) <= told[fields.e] end
  return tonumber(fields.t) <= began
end

local function last_told(log)
  local before = '+'
  while true do
    local entries = redis.call('XREVRANGE', log, before, '-', 'COUNT', AT_ONCE)
    for _, entry in ipairs(entries) do
      if was_told(entry) then return entry end
      before = '(' .. entry[1]
    end
    if #entries < AT_ONCE then return nil end
  end
end

local last = last_told(KEYS[3])
local last_fields = last and fields_of(last) or {}
local reply = { text(now), epoch, head[1] or '0', head[2] or '0', last_fields.e or '', last and text(version_in(last)) or '' }
local bytes = 0

-- Adds the entries of a log after an entry, or from its beginning, up to a version.
local function add(log, after, up_to)
  local from = after and '(' .. after[1] or '-'
  while bytes < portion do
    local entries = redis.call('XRANGE', log, from, text(up_to) .. '-0', 'COUNT', AT_ONCE)
    for _, entry in ipairs(entries) do
      local fields = fields_of(entry)
      for _, part in ipairs({ text(version_in(entry)), fields.e, fields.t, fields.k, fields.p }) do reply[#reply + 1] = part end
      bytes = bytes + #fields.p
      if bytes >= portion then return end
      from = '(' .. entry[1]
    end
    if #entries < AT_ONCE then return end
  end
end

local newest = tonumber(head[1] or '0')
if KEYS[4] and not last then
  local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
  local first_version = first and version_in(first) or newest + 1
  -- Entries before the log's first one are gone. Of those, messages to everyone are in a second log.
  if first_version > at + 1 then add(KEYS[4], last_told(KEYS[4]), first_version - 1) end
end
add(KEYS[3], last, newest)
return reply
