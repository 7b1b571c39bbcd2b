#!lua
-- Repairs a topic that a script left half done because the server refused a command in the middle. If the script had
-- written slots or the schedule, the rest follows as the script would have done it: the events under their epoch and
-- versions, the freed slots, and the answer. If it had not, its versions name nothing, and a new epoch begins. Indexes are
-- made to fit the records.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the topic's head
-- KEYS[3]  the topic's log
-- KEYS[4]  the bucket's head
-- KEYS[5]  the bucket's log
-- KEYS[6]  the bucket's holds by their end
-- KEYS[7]  the bucket's holds by their user
-- KEYS[8]  the bucket's registered spaces
-- KEYS[9]  the bucket's journal
-- KEYS[10] the space's days; with it and the following only for a space
-- KEYS[11] the bucket's bookings by their user
-- KEYS[12] the bucket's spaces by day
-- KEYS[13] the notifications that are still to be sent to users who lost slots
-- KEYS[14] and on: the slots of the days that the mark names, then the calls of its caller if it names them
-- ARGV[4]  the mark, as `mark_of` makes it
-- ARGV[5]  the topic's channel
-- ARGV[6]  the bucket's channel
-- ARGV[7]  the site
-- ARGV[8]  the space
-- ARGV[9] and on, two a day that the mark names: YYYY-MM-DD, and when its slots are forgotten, in s since 1970
--
-- Reply: an array of one text: 'done', or 'other' when the topic is not marked like this any more.

local epoch = fence(KEYS[1])
if redis.call('HGET', KEYS[2], 'half') ~= ARGV[4] then return { 'other' } end

-- Makes sure that the log accepts the next version.
local function lift(head, log)
  local last = last_of_log(log)
  if last > version_of(head) then redis.call('HSET', head, 'v', text(last)) end
end

-- The days of the mark, with the place and the key of each.
local days = {}
for arg = 9, #ARGV, 2 do
  local i = #days + 1
  days[i] = { key = KEYS[13 + i], forgotten_at = ARGV[arg + 1],
    place = { site = ARGV[7], space = ARGV[8], day = ARGV[arg] } }
end

-- The content of a mark of a space's change; nil for any other mark.
local function parse_mark(mark)
  local names = '^[^\n]*\n([^\n]*):(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)\n([^\n]*\n[^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$'
  local plan, freed_at, lines = { changes = {} }, nil, nil
  plan.epoch, plan.before, plan.now, freed_at, plan.act, plan.answer, plan.calls, plan.digests, lines =
    string.match(mark, names)
  if not lines then return end
  plan.before, plan.now = tonumber(plan.before), tonumber(plan.now)
  local i = 0
  for version in string.gmatch(freed_at .. ',', '([^,]*),') do
    i = i + 1
    if days[i] then days[i].freed_at = tonumber(version) end
  end
  for line in string.gmatch(lines, '[^\n]+') do
    local kind, day, number, start, label = string.match(line, '^(%a) ?(%d*) ?(%d*) ?(%d*) ?(.*)$')
    local change = { kind = kind, day = days[tonumber(day)], number = number, start = tonumber(start), label = label }
    change.version = plan.before + #plan.changes + 1
    plan.changes[#plan.changes + 1] = change
  end
  return plan
end

local plan = parse_mark(ARGV[4])
local logged = last_of_log(KEYS[3])

-- Calls a function at the instant of the failed script, so that records are read and events are made as that script
-- would have done.
local function as_of_then(work)
  local present = now
  now = plan.now
  work()
  now = present
end

-- Notes the slot's record with each change, and each slot's last change.
local function look_at_slots()
  local last = {}
  for _, change in ipairs(plan.changes) do
    if change.day then
      local slot = change.day.key .. ' ' .. change.number
      local value = redis.call('HGET', change.day.key, change.number)
      change.record, change.slot, last[slot] = value and parse_record(value), slot, change
    end
  end
  for _, change in ipairs(plan.changes) do change.last = last[change.slot] end
end

-- Whether the records show that a change was made. An event follows its record, and a script writes all slots of an act
-- together.
local function shows(change)
  if change.version <= logged then return true end
  if change.kind == 's' then return tonumber(redis.call('HGET', KEYS[2], 'r') or '0') >= change.version end
  local last, record = change.last, change.record
  if not last then return false end
  if last.kind == 'u' then return record and record.state ~= 'unreadable' and tonumber(record.version) >= last.version end
  return last.kind ~= 'n' and not record
end

-- The last version up to which all changes were made.
local function find_done()
  if not plan then return logged end
  as_of_then(look_at_slots)
  local any = false
  for _, change in ipairs(plan.changes) do
    change.is_done = shows(change)
    any = any or change.is_done
  end
  local version = plan.before
  for _, change in ipairs(plan.changes) do
    -- A slot that neither had nor has a record was treated like the other slots of its act.
    if not (change.is_done or any and change.last and change.last.kind == 'n') then break end
    version = change.version
  end
  return version
end

local done = find_done()
-- This comes before any write. If a part of the repair happens twice or not at all, clients must not take it for
-- something that they have seen.
if done < version_of(KEYS[2]) then epoch = renew_epoch(KEYS[1]) end

-- Gives an index exactly these members of one day. `is_of_day` tells which members belong to the day.
local function set_members(key, wanted, is_of_day)
  local missing = {}
  for member, score in pairs(wanted) do missing[member] = score end
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if missing[member] then
      missing[member] = nil
    elseif is_of_day(member) then
      forget(key, member)
    end
  end
  for member, score in pairs(missing) do redis.call('ZADD', key, score, member) end
  forget_all('ZREM', key)
end

-- The most entries that one script writes into the journal.
local MOST_ENTRIES = 1100

-- Removes the journal entries of changes that the failed script did not reach. They are the last entries of the space.
local function take_back_entries()
  for _, stored in ipairs(redis.call('XREVRANGE', KEYS[9], '+', '-', 'COUNT', MOST_ENTRIES)) do
    local site, space, version = string.match(fields_of(stored).j or '',
      '^[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)\n[^\n]*\n[^\n]*\n[^\n]*\n(%d+)\n')
    if site == ARGV[7] and space == ARGV[8] then
      if tonumber(version) <= done then return end
      redis.call('XDEL', KEYS[9], stored[1])
    end
  end
end

-- Removes the notifications of an act that did not take its slots.
local function take_back_notices()
  if not plan then return end
  local notices = redis.call('HGETALL', KEYS[13])
  for i = 1, #notices, 2 do
    local of_epoch, site, space, version = string.match(notices[i], '^[^\n]*\n(.*)%-(%d+)%-(%d+)%-(%d+)$')
    local is_of_plan = of_epoch == plan.epoch and site == ARGV[7] and space == ARGV[8]
    if is_of_plan and tonumber(version) > done then forget(KEYS[13], notices[i]) end
  end
  forget_all('HDEL', KEYS[13])
end

-- Makes the indexes fit the records of a day.
local function reconcile(day)
  local place, day_key = day.place, day.key
  local ends, holds, bookings, slots = {}, {}, {}, redis.call('HGETALL', day_key)
  for i = 1, #slots, 2 do
    local record = parse_record(slots[i + 1])
    if record.state == 'h' then
      local end_member, hold_member = hold_members(place, slots[i], record)
      ends[end_member], holds[hold_member] = text(record.index_ends), '0'
    elseif format >= 2 and is_users_booking(record) then
      bookings[booking_member(place, slots[i], record)] = '0'
    end
  end
  if #slots > 0 then
    redis.call('EXPIREAT', day_key, day.forgotten_at)
    local number = string.gsub(place.day, '-', '')
    redis.call('ZADD', KEYS[10], number, number)
    if format >= 2 then remember_place(KEYS[12], place) end
  end
  local of_day = table.concat({ place.site, place.space, place.day, '' }, '\n')
  set_members(KEYS[6], ends, function(member) return string.sub(member, 1, #of_day) == of_day end)
  set_members(KEYS[7], holds, function(member)
    local after_user = string.find(member, '\n', 1, true)
    return after_user and string.sub(member, after_user + 1, after_user + #of_day) == of_day
  end)
  local of_bookings = table.concat({ place.day, place.site, place.space, '' }, '\n')
  set_members(KEYS[11], bookings, function(member)
    local after_user = string.find(member, '\n', 1, true)
    return after_user and string.sub(member, after_user + 1, after_user + #of_bookings) == of_bookings
  end)
end

-- Announces the messages in the log again, because the script may not have announced them.
local function publish_logged(version)
  local id = text(version) .. '-0'
  local entry = redis.call('XRANGE', KEYS[3], id, id)[1]
  local fields = entry and fields_of(entry)
  if fields then publish(ARGV[5], fields.e, version, fields.k, fields.p, fields.o) end
end

-- Appends missing events to the log, and announces all of them.
local function announce_changes()
  for i, change in ipairs(plan.changes) do
    if change.version > done then break end
    if change.version <= logged then
      publish_logged(change.version)
    else
      local kind, json, owned = 'space_changed', 'null', nil
      if change.kind ~= 's' then
        local is_kept = change.kind == 'u'
        local record = is_kept and change.record or { state = 'a', start = change.start, label = change.label }
        kind, owned = 'slot_update', owned_of(record)
        json = slot_update(change.day.place, change.number, record, plan.epoch, change.version)
      end
      local act = i == #plan.changes and plan.act ~= '' and plan.act or nil
      local is_told, failure = pcall(append, KEYS[3], ARGV[5], plan.epoch, change.version, kind, json, owned, act, plan.answer)
      -- The erasure of a user may have removed the entry. Then every client is behind the log, and gets a snapshot.
      local words = type(failure) == 'table' and failure.err or failure
      if not is_told and not string.find(words, 'equal or smaller', 1, true) then error(failure) end
    end
  end
end

-- Whether the bucket's log has the message about a day's freed slots.
local function was_told(day, payload)
  local id = text(day.freed_at) .. '-0'
  local entry = redis.call('XRANGE', KEYS[5], id, id)[1]
  local fields = entry and fields_of(entry)
  return fields and fields.e == plan.epoch and fields.p == payload
end

-- Announces the freed slots in the bucket, under the next version: other messages may have come since.
local function announce_freed_days()
  for _, day in ipairs(days) do
    local numbers = {}
    for _, change in ipairs(plan.changes) do
      local is_freed = change.kind == 'e' and change.day == day and change.version <= done
      if is_freed then numbers[#numbers + 1] = change.number end
    end
    local payload = freed_slots(day.place, numbers)
    if day.freed_at and #numbers > 0 and not was_told(day, payload) then
      local version
      version, epoch = standing(redis.call('HGET', KEYS[4], 'v'), KEYS[5], KEYS[1], epoch)
      announce_freed(KEYS[4], KEYS[5], ARGV[6], epoch, version + 1, payload, #numbers)
    end
  end
end

-- Stores an act's answer under its Idempotency-Key.
local function keep_answer()
  local key, call = string.match(plan.digests, '^(%S+) (%S+)$')
  local calls = KEYS[13 + #days + 1]
  if not key or not calls or plan.calls ~= calls or recall(calls, 'k', key) then return end
  remember_call(calls, 'k', key, table.concat({ plan.epoch, text(done), plan.answer, call }, '\n'))
end

if KEYS[10] then
  take_back_entries()
  take_back_notices()
  for _, day in ipairs(days) do reconcile(day) end
  local registered = ARGV[8] .. '|' .. ARGV[7]
  if (redis.call('HGET', KEYS[2], 'j') or '') ~= '' then
    redis.call('ZADD', KEYS[8], 0, registered)
  else
    redis.call('ZREM', KEYS[8], registered)
  end
end
if not plan then publish_logged(done) end
if plan and done > plan.before then
  as_of_then(announce_changes)
  if done == plan.before + #plan.changes then keep_answer() end
end
lift(KEYS[2], KEYS[3])
lift(KEYS[4], KEYS[5])
keep(KEYS[3])
-- This comes last, so that the bucket is not told anything twice.
if plan and done > plan.before then announce_freed_days() end
finish(KEYS[2])
return { 'done' }
