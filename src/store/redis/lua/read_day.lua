#!lua flags=allow-oom
-- The slots of one day of a space, with the version that they belong to: those that changed after a version, or their first
-- portion. A caller that reads several portions asks again for what changed since the first one, until the answer is one
-- portion.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the space's head
-- KEYS[3]  the day's slots
-- ARGV[4]  a portion, in bytes: the reply ends with the record that makes it so many
-- ARGV[5]  the version; '0' for all slots
-- ARGV[6]  the number of the slot after which the reply begins; '' at the beginning
--
-- Reply: an array: now in ms, epoch, version, revision of the schedule, the number of the last slot in the reply or '' when
-- there are no more, an array of number, record, number, record ..., and an array of the numbers of all slots that the day
-- has, which is empty unless ARGV[5] names a version

local epoch = fence(KEYS[1])
local head = redis.call('HMGET', KEYS[2], 'v', 'r')
local day = redis.call('HGETALL', KEYS[3])
local portion, since, after = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]) or 0

local bytes = 0
for i = 2, #day, 2 do bytes = bytes + #day[i] end
if bytes <= portion and since == 0 and after == 0 then
  return { text(now), epoch, head[1] or '0', head[2] or '0', '', day, {} }
end

local records, numbers, all = {}, {}, {}
for i = 1, #day, 2 do
  records[day[i]] = day[i + 1]
  numbers[#numbers + 1] = tonumber(day[i])
  if since > 0 then all[#all + 1] = day[i] end
end
table.sort(numbers)
local pairs_of, last, taken = {}, '', 0
for _, number in ipairs(numbers) do
  local record = records[text(number)]
  -- An unreadable record is always in the reply, so that its reader reports it.
  local is_after = record and number > after
  if is_after and (tonumber(parse_record(record).version) or math.huge) > since then
    if taken >= portion then break end
    taken = taken + #record
    pairs_of[#pairs_of + 1] = text(number)
    pairs_of[#pairs_of + 1] = record
    last = taken >= portion and text(number) or ''
  end
end
return { text(now), epoch, head[1] or '0', head[2] or '0', last, pairs_of, all }
