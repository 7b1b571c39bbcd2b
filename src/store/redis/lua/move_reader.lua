#!lua
-- Writes the place of a reader in a bucket's journal, unless another node has written it since.
--
-- KEYS[1]  the places of the readers of the bucket's journal
-- ARGV[4]  the reader
-- ARGV[5]  the stored place as the caller knows it; '' for none
-- ARGV[6]  the place to write
--
-- Reply: an array of one text: '1' when it is written, else '0'.

local written = redis.call('HGET', KEYS[1], ARGV[4]) or ''
-- The place is written already if the caller's first try was done and only its reply was lost.
if written == ARGV[6] then return { '1' } end
if written ~= ARGV[5] then return { '0' } end
redis.call('HSET', KEYS[1], ARGV[4], ARGV[6])
return { '1' }
