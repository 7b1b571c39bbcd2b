#!lua flags=allow-oom
-- The messages of a user that no socket of the user has received, oldest first.
--
-- KEYS[1]  how far the user's messages were sent and received
-- KEYS[2]  the user's messages
--
-- Reply: an array of texts: now in ms, then each message as JSON ...

local received = tonumber(redis.call('HGET', KEYS[1], 'received') or '0')
local reply = { text(now) }
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], text(received + 1) .. '-0', '+')) do
  local fields = fields_of(entry)
  if tonumber(fields.ends) > now then reply[#reply + 1] = fields.j end
end
return reply
