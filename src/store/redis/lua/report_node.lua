#!lua
-- Renews a node's lease, and writes the changes of its report.
--
-- KEYS[1]  the leases of the nodes
-- KEYS[2]  the node's report
-- KEYS[3]  the leases of the nodes that know format 2
-- ARGV[4]  the node's id
-- ARGV[5]  how long the lease lasts, in ms
-- ARGV[6]  '' to write the report anew, else the stamp that it must bear for the changes to fit
-- ARGV[7]  the stamp that it bears afterwards
-- ARGV[8]  how many of the following ARGV are fields and values to set; the others are fields to remove
-- ARGV[9] and on: field, value, field, value ..., then fields
--
-- Reply: an array of texts: 'done', now in ms, how many nodes live that do not know format 2; or 'anew' (the report is not
-- the one that the changes are of) and now.

local known = {}
if ARGV[6] == '' then
  known = redis.call('HGETALL', KEYS[2])
elseif redis.call('HGET', KEYS[2], 'stamp') ~= ARGV[6] then
  return { 'anew', text(now) }
end
local first_removed = 9 + tonumber(ARGV[8])
local is_set = { stamp = true }
for i = 9, first_removed - 1, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  is_set[ARGV[i]] = true
end
redis.call('HSET', KEYS[2], 'stamp', ARGV[7])
for i = first_removed, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
-- Removes the fields of the replaced report. The key is not deleted first: while its slot moves to another server, a
-- missing key is looked for there, and the following commands would fail.
for i = 1, #known, 2 do
  if not is_set[known[i]] then redis.call('HDEL', KEYS[2], known[i]) end
end
redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[5]) + 60000)
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[5])), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
redis.call('ZADD', KEYS[3], text(now + tonumber(ARGV[5])), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', text(now))
return { 'done', text(now), text(count_old_nodes(KEYS[1], KEYS[3])) }
