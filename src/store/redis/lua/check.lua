#!lua
-- Tries each command that the other scripts use, on keys of its own, and deletes them.
--
-- KEYS[1..4]  a hash, a string, a sorted set and a stream, all of one bucket and used by nothing else
-- ARGV[1..2]  the channels of a bucket and of a space; what is published in them is empty, which every node ignores
--
-- Reply: for each command that was refused two texts, its name and the server's words.

local hash, text, sorted, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local refused = {}

local function try(command, ...)
  local reply = redis.pcall(command, ...)
  if type(reply) == 'table' and reply.err then
    refused[#refused + 1] = command
    refused[#refused + 1] = reply.err
    return nil
  end
  return reply
end

try('TIME')
try('HSET', hash, 'field', 'value')
try('SET', text, 'value', 'PX', 1000)
try('ZADD', sorted, 1, 'member')
try('XADD', stream, '1-0', 'field', 'value')
-- If DEL is refused, the rest expires by itself.
for _, key in ipairs(KEYS) do
  try('PEXPIRE', key, 1000)
end
try('EXPIREAT', hash, 4102444800)
try('PEXPIRE', hash, 1000)
try('HGET', hash, 'field')
try('HGETALL', hash)
try('HMGET', hash, 'field')
try('HDEL', hash, 'field')
try('GET', text)
try('ZRANGE', sorted, 0, -1)
try('ZRANGEBYLEX', sorted, '-', '+')
try('ZRANGEBYSCORE', sorted, '-inf', '+inf')
try('ZSCORE', sorted, 'member')
try('ZRANDMEMBER', sorted, 1)
try('ZREM', sorted, 'member')
try('ZREMRANGEBYSCORE', sorted, '-inf', '+inf')
try('XADD', stream, 'MAXLEN', '~', 100, '1-*', 'field', 'value')
try('XDEL', stream, '1-1')
try('XTRIM', stream, 'MINID', '1-0')
try('XRANGE', stream, '-', '+', 'COUNT', 1)
try('XREVRANGE', stream, '+', '-', 'COUNT', 1)
try('SCAN', '0', 'MATCH', hash, 'COUNT', 1, 'TYPE', 'hash')
for _, channel in ipairs(ARGV) do
  try('PUBLISH', channel, '')
end
local replication = try('INFO', 'replication')
if replication and not string.find(replication, 'master_replid:', 1, true) then
  refused[#refused + 1] = 'INFO'
  refused[#refused + 1] = 'it does not tell master_replid'
end
for _, key in ipairs(KEYS) do
  try('DEL', key)
end
return refused
