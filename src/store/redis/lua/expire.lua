#!lua
-- Frees slots of a bucket, each only if it is a hold that has ended; announces each in its space, and those of one day
-- together in the bucket. What another sweeper or an act was quicker to free is left alone.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's holds by their end
-- KEYS[3]  the bucket's holds by their user
-- KEYS[4]  the bucket's head
-- KEYS[5]  the bucket's log
-- KEYS[6] and on, three a day of a space: the space's head, the space's log, the day's slots
-- ARGV[4]  the bucket's channel
-- ARGV[5] and on, for each day of a space in the order of its KEYS: the space's channel, the site, the space, the day
--          as YYYY-MM-DD, how many slots follow, and then for each, ascending by number: its member of the index
--
-- Reply: an array of texts: now in ms, the end in ms of the hold that ends first now or '', how late the oldest was freed in
-- ms, then for each day of a space how many of its slots were freed ...

local epoch = fence(KEYS[1])
local reply = { text(now), '', '0' }
local oldest_late, bucket_version = 0, version_of(KEYS[4])
local announcements, freed_count = {}, 0

-- An entry of the index whose hold is gone, with its day: nothing is left to free.
local function forget_entry(member, place, number)
  local ends = redis.call('ZSCORE', KEYS[2], member)
  if not ends or tonumber(ends) > now then return end
  forget(KEYS[2], member)
  local user, token, label = string.match(member, '^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)\n(.*)$')
  local _, hold_member = hold_members(place, number, { user = user, token = token, label = label, ends = tonumber(ends) })
  forget(KEYS[3], hold_member)
end

-- The end in ms of the hold that ends first of those that stay, or ''.
local function first_end()
  local gone = 0
  for _ in pairs(forgotten[KEYS[2]] or {}) do gone = gone + 1 end
  local entries = redis.call('ZRANGE', KEYS[2], 0, gone, 'WITHSCORES')
  for i = 1, #entries, 2 do
    if not is_forgotten(KEYS[2], entries[i]) then return text(tonumber(entries[i + 1])) end
  end
  return ''
end

-- Frees what has ended of one day of a space, and keeps in mind what is to be announced.
local function free(place, members)
  local numbers, version = {}, version_of(place.head)
  for _, member in ipairs(members) do
    local number = string.match(member, '^[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)')
    local value = redis.call('HGET', place.day_key, number)
    local record = value and parse_record(value)
    if is_ended(record) and not is_forgotten(place.day_key, number) then
      oldest_late = math.max(oldest_late, now - record.ends)
      forget_hold(KEYS[2], KEYS[3], place, number, record)
      forget(place.day_key, number)
      numbers[#numbers + 1] = number
      version = version + 1
      local freed = { state = 'a', start = record.start, label = record.label }
      announcements[#announcements + 1] = { place.log, place.channel, epoch, version, 'slot_update',
        slot_update(place, number, freed, epoch, version) }
    else
      forget_entry(member, place, number)
    end
  end
  forget_all('HDEL', place.day_key)
  if #numbers > 0 then
    redis.call('HSET', place.head, 'v', text(version))
    bucket_version = bucket_version + 1
    freed_count = freed_count + #numbers
    announcements[#announcements + 1] = { KEYS[5], ARGV[4], epoch, bucket_version, 'freed', freed_slots(place, numbers) }
  end
  reply[#reply + 1] = text(#numbers)
end

local arg, key = 5, 6
while arg <= #ARGV do
  local place = {
    channel = ARGV[arg], site = ARGV[arg + 1], space = ARGV[arg + 2], day = ARGV[arg + 3],
    head = KEYS[key], log = KEYS[key + 1], day_key = KEYS[key + 2],
  }
  local members, count = {}, tonumber(ARGV[arg + 4])
  for i = 1, count do members[i] = ARGV[arg + 4 + i] end
  arg, key = arg + 5 + count, key + 3
  free(place, members)
end

if #announcements > 0 then
  redis.call('HSET', KEYS[4], 'v', text(bucket_version), 'f', text(freed_of(KEYS[4]) + freed_count))
end
local logs = {}
for _, announcement in ipairs(announcements) do
  append(unpack(announcement))
  logs[announcement[1]] = true
end
for log in pairs(logs) do keep(log) end
reply[2], reply[3] = first_end(), text(oldest_late)
forget_all('ZREM', KEYS[2])
forget_all('ZREM', KEYS[3])
return reply
