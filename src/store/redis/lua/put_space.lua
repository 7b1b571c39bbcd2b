#!lua
-- Registers a space, changes its schedule, or removes it; takes a version, and tells everyone who watches.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the space's head
-- KEYS[3]  the space's log
-- KEYS[4]  the bucket's registered spaces
-- KEYS[5]  the bucket's journal
-- KEYS[6]  the people of the journal's present generation
-- ARGV[4]  the act's id
-- ARGV[5]  the deadline, in ms of the store's clock
-- ARGV[6]  '1' when it was sent before and may have been done, else '0'
-- ARGV[7]  the space's channel
-- ARGV[8]  where the space must be: epoch and version, a colon between
-- ARGV[9]  the schedule as JSON, '' to remove the space
-- ARGV[10] the space's member of the registered spaces, `X|S`
-- ARGV[11] what the journal tells of it, lines as of `open_journal`
--
-- Reply: an array of texts: 'done', now in ms, epoch, version; or 'stale', 'late' or 'unknown' and now, or 'half', now
-- and a mark, as of `act.lua`.

if now > tonumber(ARGV[5]) then return { 'late', text(now) } end
local epoch = fence(KEYS[1])
if ARGV[6] == '1' then
  local of_epoch, version, _, unknown = find_act(KEYS[3], ARGV[4])
  if of_epoch then return { 'done', text(now), of_epoch, version } end
  if unknown then return { 'unknown', text(now) } end
end
local head = redis.call('HMGET', KEYS[2], 'v', 'half')
if head[2] then return { 'half', text(now), head[2] } end
if epoch .. ':' .. (head[1] or '0') ~= ARGV[8] then return { 'stale', text(now) } end
local version
version, epoch = standing(head[1], KEYS[3], KEYS[1], epoch)
version = version + 1
open_journal(KEYS[5], KEYS[6], ARGV[11])
if journal then
  local space, site = string.match(ARGV[10], '^(%d+)|(%d+)$')
  note_entry({ act = 'space', place = { site = site, space = space }, slots = {}, version = version, by_actor = true })
end
look_up_people()
begin(KEYS[2], version, '-')
write_journal(epoch, true)
redis.call('HSET', KEYS[2], 'r', text(version), 'j', ARGV[9])
if ARGV[9] == '' then
  redis.call('ZREM', KEYS[4], ARGV[10])
else
  redis.call('ZADD', KEYS[4], 0, ARGV[10])
end
append(KEYS[3], ARGV[7], epoch, version, 'space_changed', 'null', ARGV[4], '')
keep(KEYS[3])
finish(KEYS[2])
return { 'done', text(now), epoch, text(version) }
