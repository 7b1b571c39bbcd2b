#!lua
-- Appends a message to everyone to its bucket's topic, and announces it. A second log keeps it for nodes that are further
-- behind than the bucket's log reaches.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's head
-- KEYS[3]  the bucket's log
-- KEYS[4]  the log of messages to everyone
-- ARGV[4]  the act's id
-- ARGV[5]  the deadline, in ms of the store's clock
-- ARGV[6]  how many copies of it were sent before and may have been done, or still come
-- ARGV[7]  the bucket's channel
-- ARGV[8]  how far the caller has seen the bucket (as `standing` takes it)
-- ARGV[9]  the message's kind
-- ARGV[10] its payload as JSON
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
local version
version, epoch = standing(head[1], KEYS[3], KEYS[1], epoch, ARGV[8])
version = version + 1
begin(KEYS[2], version, '-')
append(KEYS[3], ARGV[7], epoch, version, ARGV[9], ARGV[10], nil, ARGV[4], '')
keep(KEYS[3])
-- A refusal does no harm here. The message was already kept and published, and only a node that is very far behind
-- would read this log.
redis.pcall('XADD', KEYS[4], 'MAXLEN', '=', LOG_LENGTH, text(version) .. '-0',
  'e', epoch, 'k', ARGV[9], 'p', ARGV[10], 't', text(now))
keep(KEYS[4])
finish(KEYS[2])
return { 'done', text(now), epoch, text(version) }
