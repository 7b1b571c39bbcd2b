#!lua
-- Forgets the id that replaced an erased user's, once nothing is kept under the user's own id.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the id that takes the place of the user's
--
-- Reply: an array of one text: 'done'.

fence(KEYS[1])
redis.call('DEL', KEYS[2])
return { 'done' }
