#!lua flags=allow-oom
-- The slots of one day of a space, with the version that they are at.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the space's head
-- KEYS[3]  the day's slots
--
-- Reply: an array: now in ms, epoch, version, revision of the schedule, then an array of number, record, number, record ...

local epoch = fence(KEYS[1])
local head = redis.call('HMGET', KEYS[2], 'v', 'r')
return { text(now), epoch, head[1] or '0', head[2] or '0', redis.call('HGETALL', KEYS[3]) }
