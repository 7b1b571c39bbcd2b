#!lua flags=allow-oom
-- Finds the holds of a bucket that have ended, those that ended first before the others, and some that end
-- later than they may; changes nothing.
--
-- KEYS[1]  the bucket's holds by their end
-- ARGV[4]  how many at most
--
-- Reply: an array of texts: now in ms, the end in ms of the hold that ends first or '', then the members of the
-- holds that have ended or must end sooner ...

local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, ARGV[4])
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local reply = add_all({ text(now), first and text(tonumber(first)) or '' }, members)
-- Holds whose end was set at a later time than now. The clock has gone back, and they end sooner than the index says. They
-- are among the last entries of the index.
local last = redis.call('ZRANGE', KEYS[1], -16, -1, 'WITHSCORES')
for i = 1, #last, 2 do
  local length = string.match(last[i], '^' .. string.rep('[^\n]*\n', 7) .. '(%d+)$')
  if length and now + tonumber(length) < tonumber(last[i + 1]) then reply[#reply + 1] = last[i] end
end
return reply
