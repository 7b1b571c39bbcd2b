#!lua
-- Takes or renews the right to walk all buckets.
--
-- KEYS[1]  the lease's holder
-- ARGV[4]  who wants it
-- ARGV[5]  for how long, in ms
--
-- Reply: an array of texts: '1' when it is granted or '0' when another has it, and now in ms.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[4] then return { '0', text(now) } end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
return { '1', text(now) }
