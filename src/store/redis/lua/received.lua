#!lua
-- Remembers the last message that a user has received. The number never goes back, and never exceeds the last sent one.
--
-- KEYS[1]  how far the user's messages were sent and received
-- ARGV[4]  the sequence of the last message received
--
-- Reply: an array of one text: now in ms.

local state = redis.call('HMGET', KEYS[1], 'sent', 'received')
local received = math.min(tonumber(ARGV[4]), tonumber(state[1] or '0'))
if received > tonumber(state[2] or '0') then
  redis.call('HSET', KEYS[1], 'received', text(received))
end
return { text(now) }
