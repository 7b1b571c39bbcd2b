#!lua
-- Takes or renews the right to walk all buckets.
--
-- KEYS[1]  the lease's holder, how long it lasts in ms, and its end, a line each
-- ARGV[4]  the one that wants it
-- ARGV[5]  for how long the lease lasts, in ms
--
-- Reply: an array of texts: '' when the lease is granted, or for how many ms another still has it; and now in ms.

local holder, length, ends = string.match(redis.call('GET', KEYS[1]) or '', '^([^\n]*)\n?(%d*)\n(%d+)$')
-- An end that is further ahead than the lease lasts was set before the clock went back. Then nobody has the lease. A
-- node of 0.1 does not write how long its lease lasts.
local is_of_this_clock = holder and tonumber(ends) - now <= (tonumber(length) or tonumber(ARGV[5]))
if is_of_this_clock and holder ~= ARGV[4] then return { text(math.max(tonumber(ends) - now, 0)), text(now) } end
redis.call('SET', KEYS[1], ARGV[4] .. '\n' .. ARGV[5] .. '\n' .. text(now + tonumber(ARGV[5])), 'PX', ARGV[5])
return { '', text(now) }
