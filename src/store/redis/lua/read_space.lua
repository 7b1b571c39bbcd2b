#!lua flags=allow-oom
-- A space: its schedule, and its taken slots of the future. They come without staff's data, which may be megabytes. KEYS
-- must name the days on which the space has slots. A caller that does not name them all is told them, and asks again.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the space's head
-- KEYS[3]  the space's days
-- KEYS[4] and on: the slots of the days, in the order of the days in ARGV
-- ARGV[4] and on: the days that the caller knows of, each as YYYYMMDD, ascending
--
-- Reply: an array: 'days' and the days that have to be named ...; or 'space', now in ms, epoch, version, revision of the
-- schedule, the schedule as JSON or '', then for each slot that somebody has its day, its number and its record ...

-- A record's text without staff's data.
local function without_data(record, value)
  if (record.data or '') == '' then return value end
  record.data = nil
  return record_text(record)
end

local epoch = fence(KEYS[1])
-- A local day is at most one day off.
local days = redis.call('ZRANGEBYSCORE', KEYS[3], day_number(now - 86400000), '+inf')
local known = {}
for i = 4, #ARGV do known[ARGV[i]] = KEYS[i] end
for _, day in ipairs(days) do
  if not known[day] then return add_all({ 'days' }, days) end
end
local head = redis.call('HMGET', KEYS[2], 'v', 'r', 'j')
local reply = { 'space', text(now), epoch, head[1] or '0', head[2] or '0', head[3] or '' }
for _, day in ipairs(days) do
  local slots = redis.call('HGETALL', known[day])
  for i = 1, #slots, 2 do
    local record = parse_record(slots[i + 1])
    local status = status_of(record, record.start)
    if record.start and record.start > now and (status == 'occupied' or status == 'booked' or status == 'blocked') then
      reply[#reply + 1] = day
      reply[#reply + 1] = slots[i]
      reply[#reply + 1] = without_data(record, slots[i + 1])
    end
  end
end
return reply
