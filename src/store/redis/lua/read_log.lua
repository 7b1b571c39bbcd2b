#!lua flags=allow-oom
-- The messages of a topic's log after a position: all, or the first portion, or nothing.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the topic's head
-- KEYS[3]  the topic's log
-- ARGV[4]  the epoch of the position
-- ARGV[5]  its version
-- ARGV[6]  a portion, in bytes: the reply ends with the payload that makes it so many
--
-- Reply: an array: 'gone', epoch, version of the head; or 'messages', epoch, version of the head, then for each message its
-- kind, its payload and what it tells nodes of the slot's owner ('' when nothing) ..., the first that of the version after the position.

-- How many entries are read at a time. It is small, so that few entries are read beyond the reply.
local AT_ONCE = 32

local epoch, head = fence(KEYS[1]), version_of(KEYS[2])
local since, portion = tonumber(ARGV[5]), tonumber(ARGV[6])
local gone = { 'gone', epoch, text(head) }
if ARGV[4] ~= epoch or since > head then return gone end
local reply = { 'messages', epoch, text(head) }
if head - since > LOG_LENGTH then return gone end
local version, bytes = since, 0
while version < head and bytes < portion do
  local entries = redis.call('XRANGE', KEYS[3], text(version + 1) .. '-0', '+', 'COUNT', AT_ONCE)
  if #entries == 0 then return gone end
  for _, entry in ipairs(entries) do
    local fields = fields_of(entry)
    -- A version of another epoch proves nothing under this one.
    if entry[1] ~= text(version + 1) .. '-0' or fields.e ~= epoch then return gone end
    version = version + 1
    bytes = bytes + #fields.p
    reply[#reply + 1] = fields.k
    reply[#reply + 1] = fields.p
    reply[#reply + 1] = fields.o or ''
    if bytes >= portion then break end
  end
end
return reply
