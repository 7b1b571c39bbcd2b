#!lua
-- Ends an epoch under which a node has seen a bucket go back: an older copy has replaced its keys.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the topic's head
-- ARGV[4]  the epoch that is to end
--
-- Reply: an array of texts: now in ms, epoch, version of the head.

local epoch, version = fence(KEYS[1]), version_of(KEYS[2])
if epoch == ARGV[4] then
  epoch = new_epoch(epoch)
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
return { text(now), epoch, text(version) }
