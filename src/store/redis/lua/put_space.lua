#!lua
-- Registers a space, changes its schedule, or removes it. Takes a version, and announces the change. Refuses a change that
-- would move or remove a taken slot of the future. Frees ended holds of the space first, under the old schedule. The
-- remaining taken slots get their new labels.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the space's head
-- KEYS[3]  the space's log
-- KEYS[4]  the bucket's registered spaces
-- KEYS[5]  the space's days
-- KEYS[6]  the bucket's holds by their end
-- KEYS[7]  the bucket's holds by their user
-- KEYS[8]  the bucket's head
-- KEYS[9]  the bucket's log
-- KEYS[10] the bucket's journal
-- KEYS[11] the people of the journal's present generation
-- KEYS[12] the bucket's bookings by their user
-- KEYS[13] and on: the slots of the days, in the order of the days in ARGV
-- ARGV[4]  the act's id
-- ARGV[5]  the deadline, in ms of the store's clock
-- ARGV[6]  how many copies of it were sent before and may have been done, or still come
-- ARGV[7]  the space's channel
-- ARGV[8]  the bucket's channel
-- ARGV[9]  the site
-- ARGV[10] the space
-- ARGV[11] the revision of the schedule that the caller read, and how far the caller has seen the space, as in `act.lua`
-- ARGV[12] the schedule as JSON, '' to remove the space
-- ARGV[13] the space's member of the registered spaces
-- ARGV[14] how many ended holds one script frees at most
-- ARGV[15] what the journal says of it, as lines that `open_journal` reads
-- ARGV[16] and on, two a day that the caller knows of: the day as YYYYMMDD, and its slots from now on. These are runs of
--          slots, a blank between two; a run is its first number, how many there are, the first one's start in ms, from one
--          start to the next in ms, the length of each in ms, and the first one's label in minutes of the day, a colon
--          between two
--
-- Reply: an array of texts.
--   'done', now in ms, epoch, version
--   'in_use', now, then for each slot that would move or go its day as YYYYMMDD and its number ...
--   'days', now, the days that have to be named ...
--   'sweep', now: more holds of the space have ended than one script frees
--   'stale', 'half', 'late' or 'unknown' as in `act.lua`

local copy = tonumber(ARGV[6])
if now > tonumber(ARGV[5]) then return { 'late', text(now) } end
local epoch = fence(KEYS[1])
if copy > 0 then
  local of_epoch, version, _, unknown = find_act(KEYS[3], ARGV[4])
  if of_epoch then return { 'done', text(now), of_epoch, version } end
  if unknown then return { 'unknown', text(now) } end
end
local revision, known_position = string.match(ARGV[11], '^([^\n]*)\n([^\n]*)$')
local head = redis.call('HMGET', KEYS[2], 'v', 'r', 'half', 'again')
if is_outrun(KEYS[2], ARGV[4], copy, head[4]) then return { 'late', text(now) } end
if head[3] then return { 'half', text(now), head[3] } end
if (head[2] and epoch .. ':' .. head[2] or '') ~= revision then return { 'stale', text(now) } end

local known, slots_of = {}, {}
for i = 16, #ARGV, 2 do
  known[ARGV[i]], slots_of[ARGV[i]] = KEYS[13 + (i - 16) / 2], ARGV[i + 1]
end

-- The slots of ended holds, by day: number to true.
local ended = {}

local function note_ended(day, number)
  ended[day] = ended[day] or {}
  ended[day][number] = true
end

-- Notes the ended holds in the index, and returns how many there are.
local function find_ended()
  local count, prefix = 0, ARGV[9] .. '\n' .. ARGV[10] .. '\n'
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', text(now))) do
    if string.sub(member, 1, #prefix) == prefix then
      local day, number = string.match(member, '^([^\n]*)\n([^\n]*)', #prefix + 1)
      note_ended(string.gsub(day, '-', ''), number)
      count = count + 1
    end
  end
  return count
end

if find_ended() > tonumber(ARGV[14]) then return { 'sweep', text(now) } end
-- A local day is at most one day off.
local days = redis.call('ZRANGEBYSCORE', KEYS[5], day_number(now - 86400000), '+inf')
local has_unknown, wanted = false, {}
for _, day in ipairs(days) do wanted[day] = true end
for day in pairs(ended) do wanted[day] = true end
local named = { 'days', text(now) }
for day in pairs(wanted) do
  named[#named + 1] = day
  has_unknown = has_unknown or not known[day]
end
if has_unknown then return named end

-- A slot under the new schedule: start and end in ms, and label; nothing if there is no such slot.
local function find_slot(day, number)
  for run in string.gmatch(slots_of[day], '%S+') do
    local first, count, start, step, length, minute = string.match(run, '^(%d+):(%d+):(%-?%d+):(%d+):(%d+):(%d+)$')
    local index = number - tonumber(first)
    if index >= 0 and index < tonumber(count) then
      local starts = tonumber(start) + index * tonumber(step)
      local at = (tonumber(minute) + math.floor(index * tonumber(step) / 60000)) % 1440
      return starts, starts + tonumber(length), string.format('%02d:%02d', math.floor(at / 60), at % 60)
    end
  end
end

local function place_of(day)
  local date = string.sub(day, 1, 4) .. '-' .. string.sub(day, 5, 6) .. '-' .. string.sub(day, 7, 8)
  return { site = ARGV[9], space = ARGV[10], day = date }
end

local in_use, renamed = { 'in_use', text(now) }, {}
for _, day in ipairs(days) do
  local values = redis.call('HGETALL', known[day])
  for i = 1, #values, 2 do
    local number, record = values[i], parse_record(values[i + 1])
    local is_taken = is_live(record) or record.state == 'b' or record.state == 'c'
    if is_ended(record) then
      note_ended(day, number)
    elseif is_taken and record.start > now then
      local start, finish, label = find_slot(day, tonumber(number))
      if start ~= record.start or finish ~= tonumber(record.finish) then
        in_use[#in_use + 1] = day
        in_use[#in_use + 1] = number
      elseif label ~= record.label then
        renamed[#renamed + 1] = { day = day, number = number, record = record, label = label }
      end
    end
  end
end
if #in_use > 2 then return in_use end

-- Nothing is refused from here on. First everything that will be written and announced is put together.
local version, bucket_version, before = nil, nil, nil
version, epoch = standing(head[1], KEYS[3], KEYS[1], epoch, known_position)
before = version
if next(ended) then
  bucket_version, epoch = standing(redis.call('HGET', KEYS[8], 'v'), KEYS[9], KEYS[1], epoch)
end
local announcements, freed_days, changes = {}, {}, {}
-- The days of the mark, and the index of each among them.
local marked, place_in_mark = {}, {}
open_journal(KEYS[10], KEYS[11], ARGV[15])

-- Notes a freed slot, in one entry for each user and day. `entries` has the entries of the day.
local function note_freed(entries, place, number, user)
  if not journal then return end
  local entry = entries[user]
  if not entry then
    entry = { act = 'expire', place = place, slots = {}, status = 'a', user = user }
    entries[user] = entry
    note_entry(entry)
  end
  entry.slots[#entry.slots + 1], entry.version = number, version
end

local function mark_day(day)
  if place_in_mark[day] then return end
  marked[#marked + 1] = day
  place_in_mark[day] = #marked
end

-- Frees the ended holds of one day.
local function free(day, numbers)
  local place, ascending, freed, entries = place_of(day), {}, {}, {}
  mark_day(day)
  for number in pairs(numbers) do ascending[#ascending + 1] = tonumber(number) end
  table.sort(ascending)
  for _, number in ipairs(ascending) do
    number = text(number)
    local value = redis.call('HGET', known[day], number)
    local record = value and parse_record(value)
    if is_ended(record) then
      forget_hold(KEYS[6], KEYS[7], place, number, record)
      forget(known[day], number)
      freed[#freed + 1] = number
      version = version + 1
      note_freed(entries, place, number, record.user)
      changes[#changes + 1] = planned('e', place_in_mark[day], number, record)
      announcements[#announcements + 1] = { version = version,
        json = slot_update(place, number, { state = 'a', start = record.start, label = record.label }, epoch, version) }
    end
  end
  if #freed == 0 then return end
  bucket_version = bucket_version + 1
  freed_days[#freed_days + 1] =
    { day = day, version = bucket_version, count = #freed, json = freed_slots(place, freed) }
end

for day, numbers in pairs(ended) do free(day, numbers) end
version = version + 1
changes[#changes + 1] = 's'
for _, one in ipairs(renamed) do mark_day(one.day) end
local freed_at = {}
for i in ipairs(marked) do freed_at[i] = '' end
for _, freed in ipairs(freed_days) do freed_at[place_in_mark[freed.day]] = text(freed.version) end

if journal then
  local place = { site = ARGV[9], space = ARGV[10] }
  note_entry({ act = 'space', place = place, slots = {}, version = version, by_actor = true })
end
look_up_people()
begin(KEYS[2], version, mark_of(marked, epoch, before, freed_at, changes))
write_journal(epoch, true)
-- Until the schedule is written, a failure may leave only index entries of the change, which `repair.lua` corrects.
local records = {}
for _, one in ipairs(renamed) do
  local place, record = place_of(one.day), one.record
  local is_held = record.state == 'h'
  local is_booked = format >= 2 and is_users_booking(record)
  if is_held then forget_hold(KEYS[6], KEYS[7], place, one.number, record) end
  if is_booked then forget(KEYS[12], booking_member(place, one.number, record)) end
  record.label, record.version, record.index_ends = one.label, text(version), record.ends
  if is_held then remember_hold(KEYS[6], KEYS[7], place, one.number, record) end
  if is_booked then redis.call('ZADD', KEYS[12], 0, booking_member(place, one.number, record)) end
  records[#records + 1] = { known[one.day], one.number, record_text(record) }
end
for _, record in ipairs(records) do redis.call('HSET', unpack(record)) end
for day in pairs(ended) do forget_all('HDEL', known[day]) end
redis.call('HSET', KEYS[2], 'r', text(version), 'j', ARGV[12])
if ARGV[12] ~= '' then redis.call('ZADD', KEYS[4], 0, ARGV[13]) end
for _, one in ipairs(announcements) do append(KEYS[3], ARGV[7], epoch, one.version, 'slot_update', one.json) end
append(KEYS[3], ARGV[7], epoch, version, 'space_changed', 'null', nil, ARGV[4], '')
keep(KEYS[3])
for _, freed in ipairs(freed_days) do
  announce_freed(KEYS[8], KEYS[9], ARGV[8], epoch, freed.version, freed.json, freed.count)
end
forget_all('ZREM', KEYS[6])
forget_all('ZREM', KEYS[7])
forget_all('ZREM', KEYS[12])
if ARGV[12] == '' then redis.call('ZREM', KEYS[4], ARGV[13]) end
finish(KEYS[2])
return { 'done', text(now), epoch, text(version) }
