#!lua flags=allow-oom
-- The messages of a user after a sequence, oldest first.
--
-- KEYS[1]  the user's messages
-- ARGV[4]  the sequence
--
-- Reply: an array of texts: each message as JSON ...

local reply = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], text(tonumber(ARGV[4]) + 1) .. '-0', '+')) do
  local fields = fields_of(entry)
  if tonumber(fields.ends) > now then reply[#reply + 1] = fields.j end
end
return reply
