#!lua
-- Notes that a bucket's indexes have everything that the bucket stores.
--
-- KEYS[1]  the bucket's fence
--
-- Reply: an array of one text: now in ms.

fence(KEYS[1])
if format < 2 then error({ err = 'FENCE this bucket has format 1' }) end
redis.call('HSET', KEYS[1], 'indexed', '1')
return { text(now) }
