#!lua flags=allow-oom
-- A space's schedule.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the space's head
--
-- Reply: an array: now in ms, epoch, version, revision of the schedule, the schedule as JSON or ''

local epoch = fence(KEYS[1])
local head = redis.call('HMGET', KEYS[2], 'v', 'r', 'j')
return { text(now), epoch, head[1] or '0', head[2] or '0', head[3] or '' }
