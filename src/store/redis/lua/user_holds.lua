#!lua flags=no-writes
-- A user's holds in a bucket, and the instant of this read. Ended holds are among them until they are swept.
--
-- KEYS[1]  the bucket's holds by their user
-- ARGV[4]  the end of the range of members before the user's
-- ARGV[5]  the begin of the range of members after the user's
--
-- Reply: an array of texts: now in ms, then the members ...

local reply = { text(now) }
for i, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[4], ARGV[5])) do reply[i + 1] = member end
return reply
