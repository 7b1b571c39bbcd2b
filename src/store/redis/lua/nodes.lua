#!lua flags=allow-oom
-- The nodes whose lease has not ended.
--
-- KEYS[1]  the leases of the nodes
--
-- Reply: an array of texts: now in ms, then the ids of the nodes ...

return add_all({ text(now) }, redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now), '+inf'))
