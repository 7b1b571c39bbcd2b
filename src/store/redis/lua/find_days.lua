#!lua flags=allow-oom
-- Finds the days of one bucket, or of all, a part of the server's keys at a time. A node scans each server once, to index
-- data of 0.1.
--
-- KEYS[1]  the bucket's fence: names the server
-- ARGV[4]  the cursor, '0' at the beginning
-- ARGV[5]  the pattern of the days' keys
--
-- Reply: an array of texts: the next cursor, '0' at the end, then keys, some perhaps twice ...

local found = redis.call('SCAN', ARGV[4], 'MATCH', ARGV[5], 'COUNT', 1000, 'TYPE', 'hash')
return add_all({ found[1] }, found[2])
