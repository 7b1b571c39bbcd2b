-- The beginning of every script. `scripts.rs` puts it before each.
--
-- The first three ARGV of every script:
--   ARGV[1]  32 random hexadecimal digits, never used before: what a new epoch is made of
--   ARGV[2]  '1' when the epoch is fenced by `master_replid`, '0' where INFO is refused in scripts, '?' when the caller does
--            not know whether it is; then an epoch that others fence is an error where INFO is refused.
--            '+N' as '1', and the caller has seen this server with N replicas: with fewer the script refuses (ALONE)
--   ARGV[3]  what this store's clock is ahead of Redis TIME, in ms; 0 outside tests
--
-- Numbers are doubles here and leave by `text`, which keeps whole numbers below 2^53 exact. Versions, sequences
-- and instants are below that.

-- How many changes a log keeps, and for how many milliseconds after the last change.
local LOG_LENGTH, KEEP_MILLIS = 1024, 86400000

local function text(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[3])
local now_text = text(now)

-- The newest format of a bucket that these scripts know; `keys.rs` says what each format is.
local NEWEST_FORMAT = 2

-- The format of this script's bucket, which `fence` reads. The script writes records and messages in this format.
local format = NEWEST_FORMAT

-- The server's `master_replid`, and true if the caller may compare it. `known` is the one in the fence, or nil.
local function replication_id(known)
  local info
  local replicas = string.match(ARGV[2], '^%+(%d+)$')
  if ARGV[2] == '1' or replicas then
    info = redis.call('INFO', 'replication')
  elseif ARGV[2] == '?' then
    info = redis.pcall('INFO', 'replication')
  end
  -- If INFO is refused, `info` is a table with an error, and not a text.
  local is_fenced = type(info) == 'string'
  if ARGV[2] == '?' and not is_fenced and (known or '') ~= '' then
    -- This script could not compare. After a failover it would continue the versions, while nodes that compare begin an
    -- epoch.
    error({ err = 'NOPERM this user may not use INFO in scripts, by which the nodes tell whether writes were lost. '
      .. 'Allow it: ACL SETUSER <user> +info' })
  end
  -- If a replica is gone, it may have become the primary. Then everything that this server accepts now would be lost,
  -- so the caller must first find out which server is the primary.
  if replicas and tonumber(string.match(info, 'connected_slaves:(%d+)')) < tonumber(replicas) then
    error({ err = 'ALONE this server has lost a replica, which may be the primary by now' })
  end
  return is_fenced and string.match(info, 'master_replid:(%w+)') or '', is_fenced
end

-- Makes a new epoch of the caller's random digits and the instant, so that a script that runs twice makes two epochs.
local function new_epoch(replid)
  return string.sub(redis.sha1hex(ARGV[1] .. ':' .. time[1] .. '.' .. time[2] .. ':' .. replid), 1, 32)
end

-- The epoch of the bucket whose fence is `key`. A new epoch begins unless the server's history is provably the one of
-- the fence. If the fence is missing, the script fails with FENCE, and has done nothing yet. Then the caller runs
-- `open_bucket.lua`, which makes the fence, and repeats the call. An unknown format fails with FORMAT.
local function fence(key)
  local known = redis.call('HMGET', key, 'epoch', 'replid', 'format')
  format = tonumber(known[3] or '1')
  if format > NEWEST_FORMAT then error({ err = 'FORMAT ' .. known[3] }) end
  if not known[1] then error({ err = 'FENCE this bucket has none' }) end
  local replid, is_fenced = replication_id(known[2])
  if not is_fenced or known[2] == replid then return known[1] end
  local epoch = new_epoch(replid)
  redis.call('HSET', key, 'epoch', epoch, 'replid', replid)
  return epoch
end

-- How many live nodes do not say that they know the newest format, by the leases of all nodes and of those that do. A lease
-- that ends in more than an hour was given before the clock went back.
local function count_old_nodes(leases, leases_of_knowing)
  local function count(key)
    return #redis.call('ZRANGEBYSCORE', key, '(' .. text(now), text(now + 3600000))
  end
  return math.max(count(leases) - count(leases_of_knowing), 0)
end

-- The version in a topic's head.
local function version_of(head)
  return tonumber(redis.call('HGET', head, 'v') or '0')
end

local function fields_of(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  return fields
end

-- Adds texts to a reply. Lua returns only some thousands from one `unpack`.
local function add_all(reply, texts)
  for _, item in ipairs(texts) do reply[#reply + 1] = item end
  return reply
end

-- Calls a command on a key with any number of members. Lua passes only some thousands at a time.
local function call_with_all(command, key, members)
  for first = 1, #members, 4000 do
    redis.call(command, key, unpack(members, first, math.min(first + 3999, #members)))
  end
end
