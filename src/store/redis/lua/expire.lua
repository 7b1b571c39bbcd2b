#!lua
-- Frees slots of a bucket, each only if its hold has ended. Announces each in its space, and those of one day together in
-- the bucket. Leaves alone what another sweeper or an act has freed already.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's holds by their end
-- KEYS[3]  the bucket's holds by their user
-- KEYS[4]  the bucket's head
-- KEYS[5]  the bucket's log
-- KEYS[6]  the bucket's journal
-- KEYS[7]  the people of the journal's present generation
-- KEYS[8] and on, three a day of a space: the space's head, the space's log, the day's slots
-- ARGV[4]  the bucket's channel
-- ARGV[5]  what the journal says of it, as lines that `open_journal` reads
-- ARGV[6] and on, for each day of a space in the order of its KEYS: the space's channel, the site, the space, the day
--          as YYYY-MM-DD, how many slots follow, how far the caller has seen the space (as `standing` takes it), and then for
--          each slot, ascending by number: its member of the index
--
-- A hold whose end lies further ahead than when it was set, because the server's clock has gone back, ends sooner: that is a
-- change and an event of its space, and frees nothing.
--
-- Reply: 'half', now, the number of a day of a space from 0 on, and a mark as in `act.lua`, when that space is half done; or
-- an array of texts: now in ms, the end in ms of the hold that ends first now or '', how late the oldest was freed in
-- ms, then for each day of a space how many of its slots were freed ...

local epoch = fence(KEYS[1])
open_journal(KEYS[6], KEYS[7], ARGV[5])
local oldest_late = 0
-- What will be written once everything is known: for each space's head the versions and days, and the announcements.
local heads, announcements, renewed = {}, {}, {}

-- Removes an index entry whose hold is gone. Nothing is left to free.
local function forget_entry(member, place, number)
  local ends = redis.call('ZSCORE', KEYS[2], member)
  if not ends or tonumber(ends) > now then return end
  forget(KEYS[2], member)
  local user, token, label =
    string.match(member, '^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)\n([^\n]*)')
  if not user then return end
  local _, hold_member = hold_members(place, number, { user = user, token = token, label = label, ends = tonumber(ends) })
  forget(KEYS[3], hold_member)
end

-- The end in ms of the first of the remaining holds, or ''.
local function first_end()
  local gone = 0
  for _ in pairs(forgotten[KEYS[2]] or {}) do gone = gone + 1 end
  local entries = redis.call('ZRANGE', KEYS[2], 0, gone, 'WITHSCORES')
  for i = 1, #entries, 2 do
    if not is_forgotten(KEYS[2], entries[i]) then return text(tonumber(entries[i + 1])) end
  end
  return ''
end

local function announce(place, number, record, kind)
  local head = heads[place.head]
  head.version = head.version + 1
  head.changes[#head.changes + 1] = planned(kind, place.day_place, number, record)
  announcements[#announcements + 1] = { place.log, place.channel, head.version, 'slot_update',
    function(version) return slot_update(place, number, record, epoch, version) end, owned_of(record) }
end

-- Notes a freed slot, in one entry for each user and day of a space. `version` is its event's.
local function note_freed(place, number, user, version)
  if not journal then return end
  place.entries = place.entries or {}
  local entry = place.entries[user]
  if not entry then
    entry = { act = 'expire', place = place, slots = {}, status = 'a', user = user }
    place.entries[user] = entry
    note_entry(entry)
  end
  entry.slots[#entry.slots + 1], entry.version = number, version
end

-- Finds the ended holds of one day of a space, and those that end later than they may.
local function look_at(place, members)
  place.freed = {}
  for _, member in ipairs(members) do
    local number = string.match(member, '^[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)')
    local value = redis.call('HGET', place.day_key, number)
    local record = value and parse_record(value)
    if is_ended(record) and not is_forgotten(place.day_key, number) then
      oldest_late = math.max(oldest_late, now - record.ends)
      forget_hold(KEYS[2], KEYS[3], place, number, record)
      forget(place.day_key, number)
      place.freed[#place.freed + 1] = number
      announce(place, number, { state = 'a', start = record.start, label = record.label }, 'e')
      note_freed(place, number, record.user, heads[place.head].version)
    elseif is_live(record) and record.ends < record.index_ends then
      forget_hold(KEYS[2], KEYS[3], place, number, record)
      record.index_ends, record.length = record.ends, record.ends - now
      record.version = text(heads[place.head].version + 1)
      renewed[#renewed + 1] = { place = place, number = number, record = record }
      announce(place, number, record, 'u')
    else
      forget_entry(member, place, number)
    end
  end
end

local places, arg, key = {}, 6, 8
while arg <= #ARGV do
  local place = {
    channel = ARGV[arg], site = ARGV[arg + 1], space = ARGV[arg + 2], day = ARGV[arg + 3],
    head = KEYS[key], log = KEYS[key + 1], day_key = KEYS[key + 2], members = {},
  }
  local count = tonumber(ARGV[arg + 4])
  place.known_position = ARGV[arg + 5]
  for i = 1, count do place.members[i] = ARGV[arg + 5 + i] end
  places[#places + 1] = place
  arg, key = arg + 6 + count, key + 3
end
for i, place in ipairs(places) do
  local known = heads[place.head]
  if not known then
    local head = redis.call('HMGET', place.head, 'v', 'half')
    if head[2] then return { 'half', text(now), text(i - 1), head[2] } end
    known = { days = {}, freed_at = {}, changes = {} }
    known.version, epoch = standing(head[1], place.log, KEYS[1], epoch, place.known_position)
    known.before = known.version
    heads[place.head] = known
  end
  place.day_place = #known.days + 1
  known.days[place.day_place], known.freed_at[place.day_place] = (string.gsub(place.day, '-', '')), ''
end
local bucket_version
bucket_version, epoch = standing(redis.call('HGET', KEYS[4], 'v'), KEYS[5], KEYS[1], epoch)
local reply, freed = { text(now), '', '' }, {}
for _, place in ipairs(places) do
  look_at(place, place.members)
  reply[#reply + 1] = text(#place.freed)
  if #place.freed > 0 then
    bucket_version = bucket_version + 1
    freed[#freed + 1] = { place = place, version = bucket_version }
    heads[place.head].freed_at[place.day_place] = text(bucket_version)
  end
end

look_up_people()
for name, head in pairs(heads) do
  if head.version > head.before then
    begin(name, head.version, mark_of(head.days, epoch, head.before, head.freed_at, head.changes))
  end
end
write_journal(epoch, false)
for _, renewal in ipairs(renewed) do
  remember_hold(KEYS[2], KEYS[3], renewal.place, renewal.number, renewal.record)
  redis.call('HSET', renewal.place.day_key, renewal.number, record_text(renewal.record))
end
for _, place in ipairs(places) do forget_all('HDEL', place.day_key) end
local logs = {}
for _, announcement in ipairs(announcements) do
  local log, channel, version, kind, payload, owned = unpack(announcement)
  append(log, channel, epoch, version, kind, payload(version), owned)
  logs[log] = true
end
for log in pairs(logs) do keep(log) end
for _, one in ipairs(freed) do
  local slots = one.place.freed
  announce_freed(KEYS[4], KEYS[5], ARGV[4], epoch, one.version, freed_slots(one.place, slots), #slots)
end
reply[2], reply[3] = first_end(), text(oldest_late)
forget_all('ZREM', KEYS[2])
forget_all('ZREM', KEYS[3])
for name, head in pairs(heads) do
  if head.version > head.before then finish(name) end
end
return reply
