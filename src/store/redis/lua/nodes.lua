#!lua flags=allow-oom
-- The nodes whose lease has not ended.
--
-- KEYS[1]  the leases of the nodes
--
-- Reply: an array of texts: now in ms, then for each node its id and its lease's end in ms ...

local reply = { text(now) }
local leases = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now), '+inf', 'WITHSCORES')
for i = 1, #leases, 2 do
  reply[#reply + 1] = leases[i]
  reply[#reply + 1] = text(tonumber(leases[i + 1]))
end
return reply
