#!lua
-- Mends a topic that a script left half done, because the server refused a command in its middle: a new epoch, versions
-- above the log, and indexes that fit the records. What the records say stays: an act has all of its slots in them, or none.
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
-- KEYS[13] and on: the slots of the days that the mark names
-- ARGV[4]  the mark
-- ARGV[5]  the site
-- ARGV[6]  the space
-- ARGV[7] and on, two a day that the mark names: YYYY-MM-DD, and when its slots are forgotten, in s since 1970
--
-- Reply: an array of one text: 'done', or 'other' when the topic is not marked like this any more.

fence(KEYS[1])
if redis.call('HGET', KEYS[2], 'half') ~= ARGV[4] then return { 'other' } end
-- First, so that whatever of this happens twice, or not to its end, is not taken for what clients have seen.
renew_epoch(KEYS[1])

-- Makes the next version one that the log takes.
local function lift(head, log)
  local last = last_of_log(log)
  if last > version_of(head) then redis.call('HSET', head, 'v', text(last)) end
end

-- Makes an index have these members of one day, and no others; `is_of_day` tells which they are.
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

-- Whether what an entry tells of was done: the last of its slots has it, or something later.
local function is_done(act, day_key, slots, status, version)
  if act == 'space' then return tonumber(redis.call('HGET', KEYS[2], 'r') or '0') >= version end
  local value = day_key and redis.call('HGET', day_key, string.match(slots, '%d+$'))
  local record = value and parse_record(value)
  if not record then return not day_key or status == 'a' end
  return record.state == 'unreadable' or tonumber(record.version) >= version
end

-- Takes back the entries that the script wrote before it failed, where it did not come to what they tell of. They are the last
-- of the space, and the space's log has not come to their versions.
local function take_back_entries()
  if not KEYS[10] then return end
  local day_keys, logged = {}, last_of_log(KEYS[3])
  for i = 13, #KEYS do day_keys[ARGV[7 + (i - 13) * 2]] = KEYS[i] end
  for _, stored in ipairs(redis.call('XREVRANGE', KEYS[9], '+', '-', 'COUNT', MOST_ENTRIES)) do
    local act, site, space, day, slots, status, version = string.match(fields_of(stored).j or '',
      '^[^\n]*\n([^\n]*)\n[^\n]*\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(%d+)\n')
    version = tonumber(version)
    if site == ARGV[5] and space == ARGV[6] then
      if version <= logged then return end
      if not is_done(act, day_keys[day], slots, status, version) then redis.call('XDEL', KEYS[9], stored[1]) end
    end
  end
end

local function reconcile(place, day_key, forgotten_at)
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
    redis.call('EXPIREAT', day_key, forgotten_at)
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

take_back_entries()
lift(KEYS[2], KEYS[3])
lift(KEYS[4], KEYS[5])
if KEYS[10] then
  for i = 13, #KEYS do
    local arg = 7 + (i - 13) * 2
    reconcile({ site = ARGV[5], space = ARGV[6], day = ARGV[arg] }, KEYS[i], ARGV[arg + 1])
  end
  local registered = ARGV[6] .. '|' .. ARGV[5]
  if (redis.call('HGET', KEYS[2], 'j') or '') ~= '' then
    redis.call('ZADD', KEYS[8], 0, registered)
  else
    redis.call('ZREM', KEYS[8], registered)
  end
end
keep(KEYS[3])
finish(KEYS[2])
return { 'done' }
