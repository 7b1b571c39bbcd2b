#!lua
-- Begins to erase a user, or continues: remembers the id that replaces the user's, until `end_erasure.lua`.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the id that takes the place of the user's
-- ARGV[4]  the id to remember if none is remembered
--
-- Reply: an array of one text: the id that is remembered.

fence(KEYS[1])
local known = redis.call('GET', KEYS[2])
if known then return { known } end
redis.call('SET', KEYS[2], ARGV[4])
return { ARGV[4] }
