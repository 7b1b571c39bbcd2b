#!lua
-- Announces a message that is not kept. The message takes no version, and has the version of the topic's head.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the topic's head
-- ARGV[4]  the topic's channel
-- ARGV[5]  the message's kind
-- ARGV[6]  its payload as JSON; or, when ARGV[7] is there, the payload up to the instant that it names
-- ARGV[7]  the rest of the payload, after the instant of the announcement in ms
--
-- Reply: an array of one text: now in ms.

local epoch = fence(KEYS[1])
local payload = ARGV[6]
if ARGV[7] then payload = payload .. text(now) .. ARGV[7] end
publish(ARGV[4], epoch, version_of(KEYS[2]), ARGV[5], payload)
return { text(now) }
