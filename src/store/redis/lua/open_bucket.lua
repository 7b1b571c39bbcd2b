#!lua flags=allow-oom
-- Answers the format of a bucket, and so which key is the bucket's fence. Makes a missing fence. Moves a bucket of format 1
-- to format 2 if the caller says that no node of 0.1 lives.
--
-- KEYS[1]  the fence of format 2 and later
-- KEYS[2]  the fence of format 1: a hash. In later formats a string, so that every script of 0.1 fails at once
-- ARGV[4]  '1' when a node that knows only format 1 may live: then a new bucket has format 1
-- ARGV[5]  '1' to move a bucket of format 1
--
-- Reply: an array of texts: 'open', the format, '1' when this script has moved the bucket, else '0'; or 'unknown' and a
-- format that these scripts do not know.

local TOMBSTONE = 'This bucket has format 2 or later. slotcast 0.1 cannot use it: run slotcast 0.2 or later.'

local fenced = redis.call('HMGET', KEYS[1], 'epoch', 'replid', 'format')
if fenced[3] and tonumber(fenced[3]) ~= NEWEST_FORMAT then return { 'unknown', fenced[3] } end

-- HMGET fails if the key is a string, as in a bucket that was moved.
local old = redis.pcall('HMGET', KEYS[2], 'epoch', 'replid')
local is_moved = old.err ~= nil
if is_moved and not string.find(old.err, 'WRONGTYPE', 1, true) then error(old) end
local old_epoch, old_replid = not is_moved and old[1], not is_moved and old[2]

-- The old key is written first: if the server refuses the second write, the bucket has no fence, and the next call makes
-- one. Only a bucket without any data has complete indexes from the start.
local function make(epoch, replid, is_new)
  if not is_moved then redis.call('SET', KEYS[2], TOMBSTONE) end
  redis.call('HSET', KEYS[1], 'format', text(NEWEST_FORMAT), 'epoch', epoch, 'replid', replid)
  if is_new then
    redis.call('HSET', KEYS[1], 'indexed', '1')
  elseif old_epoch then
    redis.call('HDEL', KEYS[1], 'indexed')
  end
end

if fenced[1] then
  if not is_moved then
    -- A node of 0.1 that came after the move has made an epoch of its own. What it wrote may have versions that other
    -- messages have, too.
    local replid = replication_id(fenced[2])
    make(old_epoch and new_epoch(replid) or fenced[1], old_epoch and replid or fenced[2])
  end
  return { 'open', text(NEWEST_FORMAT), '0' }
end
if old_epoch and ARGV[5] ~= '1' then return { 'open', '1', '0' } end
if old_epoch then
  -- Versions continue under the old epoch.
  make(old_epoch, old_replid or '')
  return { 'open', text(NEWEST_FORMAT), '1' }
end
local replid = replication_id(nil)
if ARGV[4] == '1' and not is_moved then
  redis.call('HSET', KEYS[2], 'epoch', new_epoch(replid), 'replid', replid)
  return { 'open', '1', '0' }
end
make(new_epoch(replid), replid, not is_moved)
return { 'open', text(NEWEST_FORMAT), '0' }
