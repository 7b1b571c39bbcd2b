#!lua flags=allow-oom
-- The first messages of a user after a sequence, oldest first.
--
-- KEYS[1]  the user's messages
-- ARGV[4]  the sequence
-- ARGV[5]  how many bytes of JSON are enough: the message that reaches them is the last
--
-- Reply: an array of texts: each message as JSON ...

-- How many entries are read at once. Eight of the largest are a little more than a caller wants.
local AT_ONCE = 8

local reply, bytes, enough = {}, 0, tonumber(ARGV[5])
local from = text(tonumber(ARGV[4]) + 1) .. '-0'
while true do
  local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', AT_ONCE)
  for _, entry in ipairs(entries) do
    local fields = fields_of(entry)
    if tonumber(fields.ends) > now then
      reply[#reply + 1] = fields.j
      bytes = bytes + #fields.j
      if bytes >= enough then return reply end
    end
    from = '(' .. entry[1]
  end
  if #entries < AT_ONCE then return reply end
end
