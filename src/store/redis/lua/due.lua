#!lua flags=allow-oom
-- Finds the holds of a bucket that have ended, those that ended first before the others; changes nothing.
--
-- KEYS[1]  the bucket's holds by their end
-- ARGV[4]  how many at most
--
-- Reply: an array of texts: now in ms, the end in ms of the hold that ends first or '', then the members of the holds
-- that have ended ...

local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, ARGV[4])
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return { text(now), first and text(tonumber(first)) or '', unpack(members) }
