#!lua flags=allow-oom
-- What a topic's log has after a position: all of it, or nothing.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the topic's head
-- KEYS[3]  the topic's log
-- ARGV[4]  the epoch of the position
-- ARGV[5]  its version
--
-- Reply: an array: 'gone', epoch, version of the head; or 'messages', epoch, version of the head, then for each message its
-- kind and its payload ..., the first that of the version after the position.

local epoch, head = fence(KEYS[1]), version_of(KEYS[2])
local since = tonumber(ARGV[5])
local gone = { 'gone', epoch, text(head) }
if ARGV[4] ~= epoch or since > head then return gone end
local reply = { 'messages', epoch, text(head) }
if since == head then return reply end
if head - since > LOG_LENGTH then return gone end
local entries = redis.call('XRANGE', KEYS[3], text(since + 1) .. '-0', '+')
for i, entry in ipairs(entries) do
  local fields = fields_of(entry)
  -- A version that was taken under another epoch proves nothing under this one.
  if entry[1] ~= text(since + i) .. '-0' or fields.e ~= epoch then return gone end
  reply[#reply + 1] = fields.k
  reply[#reply + 1] = fields.p
end
if #entries ~= head - since then return gone end
return reply
