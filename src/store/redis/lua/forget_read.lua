#!lua
-- Removes entries of a bucket's journal that all readers have read: the ones before an entry that stays. Removes nothing if
-- a reader is not where the caller believes: after a failover readers may be further back.
--
-- KEYS[1]  the bucket's journal
-- KEYS[2]  the places of the readers of the bucket's journal
-- ARGV[4]  the number of the entry that stays
-- ARGV[5...]  pairs: a reader, and its stored place as the caller knows it
--
-- Reply: an array of one text: '1' when the entries before it are gone, else '0'.

for i = 5, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) ~= ARGV[i + 1] then return { '0' } end
end
local keep = '0-' .. ARGV[4]
if #redis.call('XRANGE', KEYS[1], keep, keep) == 0 then return { '0' } end
redis.call('XTRIM', KEYS[1], 'MINID', keep)
return { '1' }
