-- The shared part of the five acts on slots. `scripts.rs` puts it before each of them, after the other shared files.
--
-- KEYS[1]   the bucket's fence
-- KEYS[2]   the space's head
-- KEYS[3]   the space's log
-- KEYS[4]   the day's slots
-- KEYS[5]   the space's days
-- KEYS[6]   the bucket's holds by their end
-- KEYS[7]   the bucket's holds by their user
-- KEYS[8]   the bucket's head
-- KEYS[9]   the bucket's log
-- KEYS[10]  the bucket's journal
-- KEYS[11]  the people of the journal's present generation
-- KEYS[12]  the bucket's bookings by their user
-- KEYS[13]  the bucket's spaces by day
-- KEYS[14]  the caller's calls in the bucket; left out without an Idempotency-Key, as the next
-- KEYS[15]  where a bucket of format 1 keeps the answer for the Idempotency-Key
-- KEYS[16]  the notifications that are still to be sent to users who lost slots; KEYS[14] without an
--           Idempotency-Key. Left out if the act takes slots from nobody
-- ARGV[4]   the act's id
-- ARGV[5]   the deadline in ms of the store's clock: a script that starts later refuses
-- ARGV[6]   how many copies of the act were sent before and may have been done, or still come
-- ARGV[7]   the revision of the schedule that the slots came from: epoch and version, a colon between; '' when it never changed.
--           Then a line end, and how far the caller has seen the space: epoch and version as before, or ''
-- ARGV[8]   the space's channel
-- ARGV[9]   the bucket's channel
-- ARGV[10]  the site
-- ARGV[11]  the space
-- ARGV[12]  the day, YYYY-MM-DD
-- ARGV[13]  when the day's slots are forgotten, in s since 1970
-- ARGV[14]  the digest of the Idempotency-Key, that of the call, and the call as format 1 has it, a line each; '' without one
-- ARGV[15] to ARGV[18]  as the act says
-- ARGV[19]  what the journal says of the act, as lines that `open_journal` reads
-- ARGV[20] and on, four a slot, ascending: its number, its start in ms, its end in ms, its local start as HH:MM
--
-- Reply: an array of texts.
--   'done', now in ms, epoch, version, token or '', the earliest end in ms or ''; then two for each user from whom it took
--           slots, the field and the value of the notification that is still to be sent ...
--   'repeat' and as above: it was done before, and nothing was written
--   'refused', now, code, the numbers of the slots in the way ...
--   'stale', now: the schedule has another revision, or the same number under another epoch
--   'half', now, mark: an earlier script left the space half done; run `repair.lua`, and repeat
--   'late', now: it started after the deadline, or after a later copy of itself, and did nothing
--   'unknown', now: it may have been done, and the log does not reach back far enough to tell
--   'mismatch', now: the Idempotency-Key was used for another call

local act_id, copy = ARGV[4], tonumber(ARGV[6])
local revision, known_position = string.match(ARGV[7], '^([^\n]*)\n([^\n]*)$')
local place = { site = ARGV[10], space = ARGV[11], day = ARGV[12] }
local key_digest, call_digest, old_fingerprint = string.match(ARGV[14], '^([^\n]*)\n([^\n]*)\n(.*)$')
local slots = {}
for i = 20, #ARGV, 4 do
  slots[#slots + 1] =
    { number = ARGV[i], start = tonumber(ARGV[i + 1]), finish = ARGV[i + 2], label = ARGV[i + 3] }
end

-- A refusal that names the slots for which `stands_in_the_way` is true; nil if there is none.
local function refuse_where(code, stands_in_the_way)
  local conflicts = {}
  for _, slot in ipairs(slots) do
    if stands_in_the_way(slot) then conflicts[#conflicts + 1] = slot.number end
  end
  if #conflicts > 0 then return { code = code, conflicts = conflicts } end
end

-- Whether `actor` is this user. An `actor` of '' is anyone.
local function is_actor(actor, user)
  return actor == '' or actor == user
end

-- A refusal, unless each slot is held live by the actor (under the token, if one was sent) or `also` allows it.
local function require_held(actor, token, also)
  return refuse_where(token == '' and 'not_held' or 'hold_expired', function(slot)
    local record = slot.record
    local held = is_live(record) and is_actor(actor, record.user) and (token == '' or token == record.token)
    return not held and not (record and also and also(record))
  end)
end

local function is_booked_by(record, actor)
  return record and record.state == 'b' and (actor == '' or actor == record.user)
end

-- Whether one of the named slots has a record. Then the day is in the space's list, and its key expires already.
local is_known_day = false

local function load_records()
  local numbers = {}
  for i, slot in ipairs(slots) do numbers[i] = slot.number end
  local values = redis.call('HMGET', KEYS[4], unpack(numbers))
  for i, slot in ipairs(slots) do
    slot.record = values[i] and parse_record(values[i]) or nil
    is_known_day = is_known_day or slot.record ~= nil
  end
end

-- Adds the day to the space's list of days, and removes days from it whose slots are forgotten.
local function remember_day()
  if format >= 2 then remember_place(KEYS[13], place) end
  local number = string.gsub(place.day, '-', '')
  if redis.call('ZADD', KEYS[5], number, number) == 0 then return end
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', '(' .. day_number(now - 32 * 86400000))
  local last = redis.call('ZRANGE', KEYS[5], -1, -1)[1]
  if last == number then redis.call('EXPIREAT', KEYS[5], ARGV[13]) end
end

-- Adds the new holds to the indexes, and answers which old entries must go. This comes before the records are written:
-- an entry without its hold is removed when it is due, but a hold without its entry would never be announced as ended.
local function index_holds(records)
  for i, slot in ipairs(slots) do
    if slot.record and slot.record.state == 'h' then
      forget_hold(KEYS[6], KEYS[7], place, slot.number, slot.record)
    end
    if records[i].state == 'h' then
      remember_hold(KEYS[6], KEYS[7], place, slot.number, records[i])
    end
  end
end

-- Removes bookings of forgotten days from the index: at least as many as are added.
local function trim_bookings()
  local last = day_number(now - 32 * 86400000)
  for _, member in ipairs(redis.call('ZRANDMEMBER', KEYS[12], 4)) do
    local day = string.match(member, '^[^\n]*\n([^\n]*)')
    if day and tonumber((string.gsub(day, '-', ''))) < last then forget(KEYS[12], member) end
  end
end

-- Does the same for the index of bookings, which buckets of format 1 do not have.
local function index_bookings(records)
  if format < 2 then return end
  local has_new = false
  for i, slot in ipairs(slots) do
    if is_users_booking(slot.record) then forget(KEYS[12], booking_member(place, slot.number, slot.record)) end
    if is_users_booking(records[i]) then
      local member = booking_member(place, slot.number, records[i])
      redis.call('ZADD', KEYS[12], 0, member)
      remember(KEYS[12], member)
      has_new = true
    end
  end
  if has_new then trim_bookings() end
end

-- Whether a slot in this state has a record.
local function leaves_record(record)
  return record.state ~= 'a' or (record.data or '') ~= ''
end

-- Writes all new states over the old ones by one command, so that a part of them is never written alone. An act leaves
-- a record for each of its slots, or for none.
local function store(records)
  local pairs_to_set, to_remove = {}, {}
  for i, slot in ipairs(slots) do
    if leaves_record(records[i]) then
      pairs_to_set[#pairs_to_set + 1] = slot.number
      pairs_to_set[#pairs_to_set + 1] = record_text(records[i])
    else
      to_remove[#to_remove + 1] = slot.number
    end
  end
  if #pairs_to_set > 0 then
    redis.call('HSET', KEYS[4], unpack(pairs_to_set))
    if not is_known_day then redis.call('EXPIREAT', KEYS[4], ARGV[13], 'NX') end
  end
  if #to_remove > 0 then redis.call('HDEL', KEYS[4], unpack(to_remove)) end
end

-- The user who holds a slot live or has booked it; nil if none is known.
local function owner_of(record)
  local has_owner = record and (is_live(record) or record.state == 'b')
  return has_owner and record.user ~= '' and record.user or nil
end

-- Notes the ended holds that were found, one entry for each user. `version` is the version of the first.
local function note_ended(version)
  local by_user = {}
  for _, slot in ipairs(slots) do
    if is_ended(slot.record) then
      local user = slot.record.user
      if not by_user[user] then
        by_user[user] = { act = 'expire', place = place, slots = {}, status = 'a', user = user }
        note_entry(by_user[user])
      end
      local entry = by_user[user]
      entry.slots[#entry.slots + 1], entry.version = slot.number, version
      version = version + 1
    end
  end
end

-- The act's name, and the actor or ''. They are needed even if no journal is kept.
local function name_and_actor()
  if journal then return journal.name, journal.actor end
  return string.match(ARGV[19], '^([^\n]*)\n%d+\n%d+\n%d+\n([^\n]*)\n')
end

-- The key of the notifications that are to be sent; nil for an act that takes from nobody.
local function key_of_notices()
  return KEYS[ARGV[14] == '' and 14 or 16]
end

-- The users who lose slots by the act. An update takes slots from everybody but the actor; a release from everybody but the
-- actor and the user whom it is for (ARGV[15]). `status` is the new status of the first of a user's slots.
local function taken_from(records)
  local all, by_user = {}, {}
  local name, actor = name_and_actor()
  for i, slot in ipairs(slots) do
    local user = owner_of(slot.record)
    local is_own = user == actor or user == records[i].user or name == 'release' and user == ARGV[15]
    if user and not is_own then
      if not by_user[user] then
        by_user[user] = { user = user, slots = {}, status = status_of(records[i], slot.start) }
        all[#all + 1] = by_user[user]
      end
      local numbers = by_user[user].slots
      numbers[#numbers + 1] = slot.number
    end
  end
  return all
end

-- Notes the journal's entries: first the ended holds, of which the first has the version after `before`, then the act
-- itself, whose last version is `last`. `records` has the slots' new records; `taken` is from `taken_from`.
local function note_act(records, before, last, taken)
  if not journal then return end
  note_ended(before + 1)
  local name = journal.name
  local entry = { act = name, place = place, slots = {}, status = records[1].state, version = last, by_actor = true }
  local had
  for i, slot in ipairs(slots) do
    entry.slots[i] = slot.number
    had = had or owner_of(slot.record)
    entry.user = entry.user or records[i].user ~= '' and records[i].user or nil
    if name == 'release' and slot.record and slot.record.state == 'b' then entry.act = 'cancel' end
  end
  entry.user = entry.user or had
  if taken[1] then entry.taken = taken end
  note_entry(entry)
end

-- The act's mark, with which `repair.lua` can finish the act.
local function mark_of_act(epoch, before, bucket_version, changes, answer)
  local lines = {}
  for i, change in ipairs(changes) do lines[i] = planned(change.kind, 1, change.number, change.record) end
  local has_key = key_digest and format >= 2
  local about = { id = act_id, answer = answer, calls = has_key and KEYS[14] or '',
    digests = has_key and key_digest .. ' ' .. call_digest or '' }
  local day = string.gsub(place.day, '-', '')
  return mark_of({ day }, epoch, before, { bucket_version and text(bucket_version) or '' }, lines, about)
end

-- The notifications to users who lose slots, two texts each: the user and the notification's id, a line each, and the
-- payload as `domain::taken` makes it.
local function notices_of(taken, epoch, version)
  local notices = {}
  for _, from in ipairs(taken) do
    local id = table.concat({ epoch, place.site, place.space, text(version) }, '-')
    add_all(notices, { from.user .. '\n' .. id, '{"id":"' .. id .. '","spazioId":' .. place.space .. ',"sedeId":' .. place.site
      .. ',"date":"' .. place.day .. '","slots":[' .. table.concat(from.slots, ',') .. '],"status":"' .. from.status
      .. '","epoch":"' .. epoch .. '","version":' .. text(version) .. '}' })
  end
  return notices
end

-- Stores the notifications that are to be sent. This comes before the slots are taken, so that nobody loses a slot
-- untold. If the act was not done, `repair.lua` removes the notifications.
local function leave_notices(taken, epoch, version)
  if not taken[1] or format < 2 then return {} end
  local key, notices = key_of_notices(), notices_of(taken, epoch, version)
  redis.call('HSET', key, unpack(notices))
  keep(key)
  return notices
end

-- The unsent notifications of an act that was done before, as `leave_notices` gives them.
local function notices_left(epoch, version)
  local key, left = key_of_notices(), {}
  local id = '\n' .. table.concat({ epoch, place.site, place.space, version }, '-')
  local notices = key and format >= 2 and redis.call('HGETALL', key) or {}
  for i = 1, #notices, 2 do
    if string.sub(notices[i], -#id) == id then add_all(left, { notices[i], notices[i + 1] }) end
  end
  return left
end

-- Frees the ended holds of the named slots first, then does the act itself: one version and one event each. `becomes` makes
-- a slot's new record. Returns the epoch, the last version, the token and the earliest end (ms) of the new holds, and the
-- notifications. The caller adds its own effects, and then calls `finish`.
local function write(epoch, last_version, becomes, with_hold)
  local version, changes, freed, bucket_version = last_version, {}, {}, nil
  for _, slot in ipairs(slots) do
    if is_ended(slot.record) then
      version = version + 1
      local record = { state = 'a', start = slot.start, label = slot.label }
      changes[#changes + 1] = { kind = 'e', number = slot.number, record = record, version = version }
      freed[#freed + 1] = slot.number
    end
  end
  if #freed > 0 then
    bucket_version, epoch = standing(redis.call('HGET', KEYS[8], 'v'), KEYS[9], KEYS[1], epoch)
    bucket_version = bucket_version + 1
  end
  local token, ends = '', nil
  local records = {}
  for i, slot in ipairs(slots) do
    version = version + 1
    local record = becomes(slot)
    record.version, record.start, record.finish, record.label = text(version), slot.start, slot.finish, slot.label
    if not record.first_version then record.first_version, record.first_epoch = record.version, epoch end
    if record.state == 'h' and format >= 2 then record.length = record.ends - now end
    if record.state == 'h' and with_hold and (not ends or record.ends < ends) then
      token, ends = record.token, record.ends
    end
    local kind = leaves_record(record) and 'u' or slot.record and 'a' or 'n'
    changes[#changes + 1] = { kind = kind, number = slot.number, record = record, version = version }
    records[i] = record
  end
  local answer = token .. '\n' .. (ends and text(ends) or '')

  local taken = key_of_notices() and taken_from(records) or {}
  note_act(records, last_version, version, taken)
  look_up_people()

  begin(KEYS[2], version, mark_of_act(epoch, last_version, bucket_version, changes, answer))
  write_journal(epoch, true)
  local notices = leave_notices(taken, epoch, version)
  index_holds(records)
  index_bookings(records)
  if not is_known_day then remember_day() end
  store(records)

  for i, change in ipairs(changes) do
    local json = slot_update(place, change.number, change.record, epoch, change.version)
    append(KEYS[3], ARGV[8], epoch, change.version, 'slot_update', json, owned_of(change.record),
      i == #changes and act_id or nil, answer)
  end
  keep(KEYS[3])
  if bucket_version then
    announce_freed(KEYS[8], KEYS[9], ARGV[9], epoch, bucket_version, freed_slots(place, freed), #freed)
  end
  forget_all('ZREM', KEYS[6])
  forget_all('ZREM', KEYS[7])
  forget_all('ZREM', KEYS[12])
  return epoch, version, answer, notices
end

local function done(epoch, version, answer)
  return { 'done', now_text, epoch, version, string.match(answer, '^([^\n]*)\n([^\n]*)$') }
end

local function repeated(epoch, version, answer)
  local reply = done(epoch, version, answer)
  reply[1] = 'repeat'
  return reply
end

-- The answer that is stored under the Idempotency-Key: epoch, version, token, end and the call's fingerprint, a line each.
local function recall_answer()
  if not key_digest then return end
  local kept, told = format >= 2 and recall(KEYS[14], 'k', key_digest), call_digest
  if not kept then kept, told = redis.call('GET', KEYS[15]), old_fingerprint end
  if not kept then return end
  local epoch, version, answer, call = string.match(kept, '^([^\n]*)\n([^\n]*)\n([^\n]*\n[^\n]*)\n(.*)$')
  if call ~= told then return { 'mismatch', now_text } end
  return repeated(epoch, version, answer)
end

local function keep_answer(epoch, version, answer)
  if not key_digest then return end
  local lines = { epoch, version, answer, format >= 2 and call_digest or old_fingerprint }
  if format >= 2 then
    remember_call(KEYS[14], 'k', key_digest, table.concat(lines, '\n'))
  else
    redis.call('SET', KEYS[15], table.concat(lines, '\n'), 'PX', KEEP_MILLIS)
  end
end

-- Does an act. `decide` returns one of three tables: `code` and `conflicts` for a refusal; `epoch`, `version` and `answer`
-- for an act that was done before (no `epoch` means the present one); `becomes`, which makes a slot's new record, and
-- `with_hold` if the answer tells the hold.
local function act(decide)
  if now > tonumber(ARGV[5]) then return { 'late', now_text } end
  local epoch = fence(KEYS[1])
  if copy > 0 then
    local of_epoch, version, answer, unknown = find_act(KEYS[3], act_id)
    if of_epoch then return add_all(done(of_epoch, version, answer), notices_left(of_epoch, version)) end
    if unknown then return { 'unknown', now_text } end
  end
  -- This comes before the check of the revision, because a given answer is repeated even if the schedule has changed
  -- since.
  local recalled = recall_answer()
  if recalled then return recalled end
  local head = redis.call('HMGET', KEYS[2], 'v', 'r', 'half', 'again')
  if is_outrun(KEYS[2], act_id, copy, head[4]) then return { 'late', now_text } end
  if head[3] then return { 'half', now_text, head[3] } end
  if (head[2] and epoch .. ':' .. head[2] or '') ~= revision then return { 'stale', now_text } end
  open_journal(KEYS[10], KEYS[11], ARGV[19])
  load_records()
  local decision = decide()
  if decision.code then
    return { 'refused', now_text, decision.code, unpack(decision.conflicts) }
  end
  -- A repeat's answer is not stored under its key, because the next repeat gets the same answer anyway.
  if not decision.becomes then return repeated(decision.epoch or epoch, decision.version, decision.answer) end
  local last, version, answer, notices
  last, epoch = standing(head[1], KEYS[3], KEYS[1], epoch, known_position)
  epoch, version, answer, notices = write(epoch, last, decision.becomes, decision.with_hold)
  keep_answer(epoch, text(version), answer)
  finish(KEYS[2])
  return add_all(done(epoch, text(version), answer), notices)
end
