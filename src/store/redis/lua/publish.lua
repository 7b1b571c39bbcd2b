#!lua
-- Appends a message to a bucket's topic and announces it.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's head
-- KEYS[3]  the bucket's log
-- ARGV[4]  the act's id
-- ARGV[5]  the deadline, in ms of the store's clock
-- ARGV[6]  '1' when it was sent before and may have been done, else '0'
-- ARGV[7]  the bucket's channel
-- ARGV[8]  the message's kind
-- ARGV[9]  its payload as JSON
--
-- Reply: an array of texts: 'done', now in ms; or 'late' or 'unknown' and now, as of `act.lua`.

if now > tonumber(ARGV[5]) then return { 'late', text(now) } end
local epoch = fence(KEYS[1])
if ARGV[6] == '1' then
  local of_epoch, _, _, unknown = find_act(KEYS[3], ARGV[4])
  if of_epoch then return { 'done', text(now) } end
  if unknown then return { 'unknown', text(now) } end
end
local version = version_of(KEYS[2]) + 1
redis.call('HSET', KEYS[2], 'v', text(version))
append(KEYS[3], ARGV[7], epoch, version, ARGV[8], ARGV[9], ARGV[4], '')
keep(KEYS[3])
return { 'done', text(now) }
