#!lua
-- Takes or renews the right to walk all buckets.
--
-- KEYS[1]  the lease's holder and its end
-- ARGV[4]  who wants it
-- ARGV[5]  for how long, in ms
--
-- Reply: an array of texts: '' when it is granted, or how long another has it still, in ms; and now in ms.

local holder, ends = string.match(redis.call('GET', KEYS[1]) or '', '^(.*)\n(%d+)$')
if holder and holder ~= ARGV[4] then return { text(math.max(tonumber(ends) - now, 0)), text(now) } end
redis.call('SET', KEYS[1], ARGV[4] .. '\n' .. text(now + tonumber(ARGV[5])), 'PX', ARGV[5])
return { '', text(now) }
