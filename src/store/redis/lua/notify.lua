#!lua
-- Keeps a message for a user, and announces it in the user's bucket.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's head
-- KEYS[3]  the bucket's log
-- KEYS[4]  how far the user's messages were sent and received
-- KEYS[5]  the user's messages
-- ARGV[4]  the act's id
-- ARGV[5]  the deadline, in ms of the store's clock
-- ARGV[6]  how many copies of it were sent before and may have been done, or still come
-- ARGV[7]  the bucket's channel
-- ARGV[8]  how many messages are kept
-- ARGV[9]  how far the caller has seen the bucket (as `standing` takes it)
-- ARGV[10] the message as JSON, up to its sequence
-- ARGV[11] the rest of it
--
-- Reply: an array of texts: 'done', now in ms, epoch, version; or 'late' or 'unknown' and now, or 'half', now and a mark,
-- as in `act.lua`.

local copy = tonumber(ARGV[6])
if now > tonumber(ARGV[5]) then return { 'late', text(now) } end
local epoch = fence(KEYS[1])
if copy > 0 then
  local of_epoch, of_version, _, unknown = find_act(KEYS[3], ARGV[4])
  if of_epoch then return { 'done', text(now), of_epoch, of_version } end
  if unknown then return { 'unknown', text(now) } end
end
local head = redis.call('HMGET', KEYS[2], 'v', 'half', 'again')
if is_outrun(KEYS[2], ARGV[4], copy, head[3]) then return { 'late', text(now) } end
if head[2] then return { 'half', text(now), head[2] } end
-- The number is at least the time, so no number is given twice, even if the count was lost: a connected socket would take a
-- new message with an old number for one that it has. It is also above the last kept message, because the stream accepts no
-- other.
local sent = tonumber(redis.call('HGET', KEYS[4], 'sent') or '0')
local sequence = math.max(sent + 1, last_of_log(KEYS[5]) + 1, now)
local json = ARGV[10] .. text(sequence) .. ARGV[11]
local version
version, epoch = standing(head[1], KEYS[3], KEYS[1], epoch, ARGV[9])
version = version + 1
begin(KEYS[2], version, '-')
redis.call('HSET', KEYS[4], 'sent', text(sequence))
redis.call('XADD', KEYS[5], 'MAXLEN', '=', ARGV[8], text(sequence) .. '-0', 'j', json, 'ends', text(now + KEEP_MILLIS))
keep(KEYS[5])
append(KEYS[3], ARGV[7], epoch, version, 'user', json, nil, ARGV[4], '')
keep(KEYS[3])
finish(KEYS[2])
return { 'done', text(now), epoch, text(version) }
