-- The beginning of every script. `scripts.rs` puts it before each.
--
-- The first three ARGV of every script:
--   ARGV[1]  32 random hexadecimal digits, never used before: what a new epoch is made of
--   ARGV[2]  '1' when the epoch is fenced by `master_replid`, '0' where INFO is refused in scripts, '?' when the caller does
--            not know whether it is; then an epoch that others fence is an error where INFO is refused.
--            '+N' as '1', and the caller has seen this server with N replicas: with fewer the script refuses (ALONE)
--   ARGV[3]  what this store's clock is ahead of Redis TIME, in ms; 0 outside tests
--
-- Numbers are doubles here and leave by `text`, which keeps whole numbers below 2^53 exact. Versions, sequences
-- and instants are below that.

-- How many changes a log keeps, and for how many milliseconds after the last change.
local LOG_LENGTH, KEEP_MILLIS = 1024, 86400000

-- An act's entry is looked up in the log. If the oldest entry of a full log is younger than this (ms), the act's entry may
-- have been trimmed already, and nobody can tell whether the act was done.
local YOUNG_MILLIS = 5000

local function text(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[3])

-- The newest format of a bucket that these scripts know; `keys.rs` says what each format is.
local NEWEST_FORMAT = 2

-- The format of this script's bucket, which `fence` reads. The script writes records and messages in this format.
local format = NEWEST_FORMAT

-- The server's `master_replid`, and true if the caller may compare it. `known` is the one in the fence, or nil.
local function replication_id(known)
  local info
  local replicas = string.match(ARGV[2], '^%+(%d+)$')
  if ARGV[2] == '1' or replicas then
    info = redis.call('INFO', 'replication')
  elseif ARGV[2] == '?' then
    info = redis.pcall('INFO', 'replication')
  end
  -- If INFO is refused, `info` is no text but a table with an error.
  local is_fenced = type(info) == 'string'
  if ARGV[2] == '?' and not is_fenced and (known or '') ~= '' then
    -- Without the comparison, versions would continue after a failover, while nodes that compare begin an epoch.
    error({ err = 'NOPERM this user may not use INFO in scripts, by which the nodes tell whether writes were lost. '
      .. 'Allow it: ACL SETUSER <user> +info' })
  end
  -- A replica that is gone may have become the primary. Then everything that this server accepts now would be lost, so the
  -- caller must first ask which server is the primary.
  if replicas and tonumber(string.match(info, 'connected_slaves:(%d+)')) < tonumber(replicas) then
    error({ err = 'ALONE this server has lost a replica, which may be the primary by now' })
  end
  return is_fenced and string.match(info, 'master_replid:(%w+)') or '', is_fenced
end

-- A new epoch. It is made of the caller's random digits and the instant, so a script that runs twice makes two.
local function new_epoch(replid)
  return string.sub(redis.sha1hex(ARGV[1] .. ':' .. time[1] .. '.' .. time[2] .. ':' .. replid), 1, 32)
end

-- The epoch of the bucket whose fence is `key`. A new one begins unless the server's history is provably the one of the
-- fence. If the fence is missing, this script has done nothing yet and fails with FENCE: the caller runs `open_bucket.lua`,
-- which makes the fence, and repeats the call. An unknown format fails with FORMAT.
local function fence(key)
  local known = redis.call('HMGET', key, 'epoch', 'replid', 'format')
  format = tonumber(known[3] or '1')
  if format > NEWEST_FORMAT then error({ err = 'FORMAT ' .. known[3] }) end
  if not known[1] then error({ err = 'FENCE this bucket has none' }) end
  local replid, is_fenced = replication_id(known[2])
  if not is_fenced or known[2] == replid then return known[1] end
  local epoch = new_epoch(replid)
  redis.call('HSET', key, 'epoch', epoch, 'replid', replid)
  return epoch
end

-- How many live nodes do not say that they know the newest format, by the leases of all nodes and of those that do. A lease
-- that ends in more than an hour was given before the clock went back.
local function count_old_nodes(leases, leases_of_knowing)
  local function count(key)
    return #redis.call('ZRANGEBYSCORE', key, '(' .. text(now), text(now + 3600000))
  end
  return math.max(count(leases) - count(leases_of_knowing), 0)
end

-- The version in a topic's head.
local function version_of(head)
  return tonumber(redis.call('HGET', head, 'v') or '0')
end

-- How many slots were ever freed in a bucket, by its head. A node whose log does not reach back far enough learns by this
-- how many it missed.
local function freed_of(head)
  return tonumber(redis.call('HGET', head, 'f') or '0')
end

-- The version of a log's last entry; 0 for an empty log.
local function last_of_log(log)
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  return last and tonumber(string.match(last[1], '^%d+')) or 0
end

-- Begins an epoch in the bucket whose fence is `key`.
local function renew_epoch(key)
  local replid = replication_id(nil)
  local epoch = new_epoch(replid)
  redis.call('HSET', key, 'epoch', epoch, 'replid', replid)
  return epoch
end

-- Where a topic stands before its next change: version and epoch. `version` is from its head. If the head is missing
-- although the topic has a log (somebody deleted it, or restored a part of a backup), versions continue above the log under
-- a new epoch: otherwise the log would refuse them after the state was written. A new epoch also begins if the caller has
-- seen a later version of the epoch (`known`: epoch and version with a colon between, or ''): an older copy has replaced
-- the data.
local function standing(version, log, fence_key, epoch, known)
  local last = tonumber(version or last_of_log(log))
  local known_epoch, known_version = string.match(known or '', '^(.*):(%d+)$')
  local has_gone_back = known_epoch == epoch and tonumber(known_version) > last
  if has_gone_back or not version and last > 0 then epoch = renew_epoch(fence_key) end
  return last, epoch
end

-- Takes versions of a topic, as a script's first effect. From here until `finish` the topic is half done. If the script
-- fails in between, it leaves the mark, which tells `repair.lua` what to do: the text of `mark_of`, or '-'. A version that
-- was taken is never issued again, and nothing is written to the topic before `repair.lua` has run.
local function begin(head, version, mark, ...)
  redis.call('HSET', head, 'v', text(version), 'half', mark, ...)
end

-- The change of one slot in a mark: its kind, the index of its day among the days of the mark, the slot's number, and, if
-- no record is left to tell, its start in ms and its label, with blanks between. The kinds:
--   'u'  the slot has a record of this version
--   'e'  a hold that had ended is freed
--   'a'  the slot's record is removed
--   'n'  the slot had no record, and has none
local function planned(kind, day, number, slot)
  local line = kind .. ' ' .. day .. ' ' .. number
  return kind == 'u' and line or line .. ' ' .. text(slot.start) .. ' ' .. slot.label
end

-- The mark of a script that changes a space. With it, `repair.lua` finishes what was done. It has a line for each of these:
-- the days that the script touches (YYYYMMDD, with commas), or '-'; the epoch and the version before the first change, with
-- a colon; now in ms; for each day, with commas, the version of the bucket that tells the freed slots, or ''; the act's id;
-- the act's answer (token and end, a line each); with an Idempotency-Key, the key of the caller's calls and the digests of
-- the Idempotency-Key and of the call, with blanks, else ''. The changes follow, one for each version: lines of `planned`,
-- or 's' for the schedule.
local function mark_of(days, epoch, before, freed_at, changes, act)
  act = act or { id = '', answer = '\n', calls = '', digests = '' }
  return table.concat({ #days > 0 and table.concat(days, ',') or '-', epoch .. ':' .. text(before), text(now),
    table.concat(freed_at, ','), act.id, act.answer, act.calls, act.digests, table.concat(changes, '\n') }, '\n')
end

-- Says that the script has done all of its effects.
local function finish(head)
  redis.call('HDEL', head, 'half')
end

-- What nodes are told of a slot's owner, as JSON of `domain::own::Owned`; nil if the slot has none, or none is known.
local function owned_of(record)
  local is_held = record.state == 'h'
  if not is_held and record.state ~= 'b' or (record.user or '') == '' then return end
  local hold, began = is_held and ',"t":' .. cjson.encode(record.token) or '', tonumber(record.began)
  return '{"u":' .. cjson.encode(record.user) .. hold .. (began and ',"g":' .. text(began) or '')
    .. ',"b":' .. text(record.start) .. '}'
end

-- Publishes a message in the bucket's format, with what nodes are told of the slot's owner, or nil. In a bucket of format 1
-- the message goes to two channels, because nodes of 0.1 listen to the name without a database.
local function publish(channel, epoch, version, kind, payload, owned)
  local head = epoch .. '\n' .. text(version) .. '\n' .. kind .. '\n'
  if format >= 2 then
    local line = '{"at":' .. text(now) .. (owned and ',"owned":' .. owned or '') .. '}\n'
    redis.call('PUBLISH', channel, '2\n' .. head .. line .. payload)
    return
  end
  redis.call('PUBLISH', channel, '1\n' .. head .. payload)
  local before, after = string.match(channel, '^(.*)@%d+(:{b%d+}:t.*)$')
  if before then redis.call('PUBLISH', before .. after, '1\n' .. head .. payload) end
end

-- Appends a version to a log and publishes it, with what nodes are told of the slot's owner, or nil. An act's last entry
-- bears the act's id and answer.
local function append(log, channel, epoch, version, kind, payload, owned, act, answer)
  local fields = { 'e', epoch, 'k', kind, 'p', payload, 't', text(now) }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if owned and format >= 2 then add('o', owned) end
  if act then
    add('a', act)
    add('r', answer)
  end
  redis.call('XADD', log, 'MAXLEN', '=', LOG_LENGTH, text(version) .. '-0', unpack(fields))
  publish(channel, epoch, version, kind, payload, owned)
end

local function keep(log)
  redis.call('PEXPIRE', log, KEEP_MILLIS)
end

-- Tells the freed slots of a day in the bucket: takes the version, counts them, and announces them. This is the last effect
-- of a script that may be refused, so that the bucket never lacks what it has counted.
local function announce_freed(head, log, channel, epoch, version, payload, count)
  redis.call('HSET', head, 'v', text(version), 'f', text(freed_of(head) + count))
  append(log, channel, epoch, version, 'freed', payload)
  keep(log)
end

local function fields_of(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  return fields
end

-- How many calls of one caller a bucket remembers, of each kind. A new call replaces the oldest.
local CALLS_KEPT = 256

-- What the hash `key` remembers of a call under the digest of its Idempotency-Key; nil if nothing, or if it is too old.
-- `kind` is 'k' for calls in this bucket's spaces, 'c' for all calls of the caller.
local function recall(key, kind, digest)
  local kept = redis.call('HGET', key, kind .. digest)
  if not kept then return end
  local at, value = string.match(kept, '^%d+\n(%d+)\n(.*)$')
  if tonumber(at) + KEEP_MILLIS > now then return value end
end

-- Remembers a call. The fields of the hash are: the kind with `n`, the number of calls; the kind with `s` and an index of
-- the ring, the digest at that index; the kind with a digest, the call's number, its instant in ms and the value, a line
-- each.
local function remember_call(key, kind, digest, value)
  local number = tonumber(redis.call('HGET', key, kind .. 'n') or '0') + 1
  local place = kind .. 's' .. text(number % CALLS_KEPT)
  local oldest = redis.call('HGET', key, place)
  redis.call('HSET', key, kind .. 'n', text(number), place, digest,
    kind .. digest, text(number) .. '\n' .. text(now) .. '\n' .. value)
  if oldest then
    -- A call that came again since has a later number, and stays.
    local of = string.match(redis.call('HGET', key, kind .. oldest) or '', '^%d+')
    if of and tonumber(of) <= number - CALLS_KEPT then redis.call('HDEL', key, kind .. oldest) end
  end
  redis.call('PEXPIRE', key, KEEP_MILLIS)
end

-- Looks up an act in a log: its epoch, version and answer; nil if it is not there; and true as the fourth value if it may
-- have been there.
local function find_act(log, act)
  local before, oldest, seen = '+', nil, 0
  while true do
    local entries = redis.call('XREVRANGE', log, before, '-', 'COUNT', 64)
    for _, entry in ipairs(entries) do
      local fields = fields_of(entry)
      if fields.a == act then
        return fields.e, string.match(entry[1], '^%d+'), fields.r
      end
      oldest, before = fields.t, '(' .. entry[1]
    end
    seen = seen + #entries
    if #entries < 64 then break end
  end
  return nil, nil, nil, seen >= LOG_LENGTH and tonumber(oldest) > now - YOUNG_MILLIS
end

-- Year, month and day of an instant in ms, UTC.
local function date_of(millis)
  local z = math.floor(millis / 86400000) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400
  if month <= 2 then year = year + 1 end
  return year, month, doy - math.floor((153 * mp + 2) / 5) + 1
end

-- The date of an instant in ms, UTC, as the number YYYYMMDD.
local function day_number(millis)
  local year, month, day = date_of(millis)
  return year * 10000 + month * 100 + day
end

-- An instant in ms as RFC 3339 UTC with milliseconds.
local function rfc3339(millis)
  local year, month, day = date_of(millis)
  local ms = millis % 86400000
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(ms / 3600000),
    math.floor(ms / 60000) % 60, math.floor(ms / 1000) % 60, ms % 1000)
end

-- A slot's record. In format 2 it is a JSON object of texts. In format 1 it is twelve lines, of which the last may contain
-- line ends. `keys.rs` describes both.
local LINES = '^' .. string.rep('([^\n]*)\n', 11) .. '(.*)$'

local function parse_lines(value)
  local r = {}
  r.state, r.version, r.start, r.finish, r.label, r.user, r.token, r.began, r.ends, r.first_ends, r.first_version, r.data =
    string.match(value, LINES)
  return r
end

local function parse_object(value)
  local is_json, o = pcall(cjson.decode, value)
  if not is_json or type(o) ~= 'table' then return {} end
  return { state = o.s, version = o.v, start = o.b, finish = o.e, label = o.l, user = o.u, token = o.t, began = o.g,
    ends = o.h, first_ends = o.f, first_version = o.w, first_epoch = o.x, length = o.n, data = o.d }
end

local function is_readable(r)
  local is_slot = type(r.label) == 'string' and tonumber(r.version) and tonumber(r.start) and tonumber(r.finish)
  if not is_slot or r.data and type(r.data) ~= 'string' then return false end
  local state = r.state
  if state == 'a' or state == 'c' then return true end
  if not tonumber(r.first_version) or r.user and type(r.user) ~= 'string' then return false end
  if state == 'b' then return true end
  return state == 'h' and r.user and r.user ~= '' and type(r.token) == 'string' and tonumber(r.began) and tonumber(r.ends)
    and tonumber(r.first_ends)
end

-- Reads a record. An unreadable record has the state 'unreadable': its slot is shown as blocked, and only staff can change
-- it, by writing a new record.
--
-- From any instant a hold lasts at most as long as when its end was set. If the server's clock has gone back since, `ends`
-- is earlier than `index_ends`, which the indexes have.
local function parse_record(value)
  local r = string.byte(value) == 123 and parse_object(value) or parse_lines(value)
  if not is_readable(r) then return { state = 'unreadable' } end
  r.start, r.ends, r.length = tonumber(r.start), tonumber(r.ends), tonumber(r.length)
  r.index_ends = r.ends
  if r.ends and r.length and now + r.length < r.ends then r.ends = now + r.length end
  return r
end

local function record_text(r)
  local is_held = r.state == 'h'
  local is_taken = is_held or r.state == 'b'
  if format >= 2 then
    local function unless_empty(value)
      return value ~= '' and value or nil
    end
    return cjson.encode({ s = r.state, v = r.version, b = text(r.start), e = r.finish, l = r.label,
      u = unless_empty(r.user), t = is_held and r.token or nil, g = is_taken and unless_empty(r.began) or nil,
      h = is_held and text(r.ends) or nil, f = is_held and r.first_ends or nil,
      w = is_taken and r.first_version or nil, x = is_taken and r.first_epoch or nil,
      n = is_held and r.length and text(r.length) or nil, d = unless_empty(r.data) })
  end
  return table.concat({ r.state, r.version, text(r.start), r.finish, r.label, r.user or '', is_held and r.token or '',
    is_held and r.began or '', is_held and text(r.ends) or '', is_held and r.first_ends or '',
    is_taken and r.first_version or '', r.data or '' }, '\n')
end

local function is_live(record)
  return record and record.state == 'h' and now < record.ends
end

local function is_ended(record)
  return record and record.state == 'h' and record.ends <= now
end

-- The status of a slot that starts at `start` (ms). A caller that knows the schedule passes the present start, because the
-- record may have an earlier one. `record` may be nil.
local function status_of(record, start)
  local state = record and record.state or 'a'
  if state == 'b' then return 'booked' end
  if state == 'c' or state == 'unreadable' then return 'blocked' end
  if start <= now then return 'past' end
  return is_live(record) and 'occupied' or 'available'
end

-- The JSON of one change of one slot, as `domain::event::slot_update` makes it.
local function slot_update(place, number, record, epoch, version)
  local status = status_of(record, record.start)
  local ends, data = '', ''
  if status == 'occupied' then
    local at = rfc3339(record.ends)
    ends = ',"held_until":"' .. at .. '","expires_at":"' .. at .. '"'
  end
  if record.data and #record.data > 2 then
    data = ',' .. string.sub(record.data, 2, -2)
  end
  return '{"type":"slot_update","slotId":' .. number .. ',"status":"' .. status .. '","data":{"id":' .. number
    .. ',"id_slot":' .. number .. ',"spazioId":' .. place.space .. ',"sedeId":' .. place.site .. ',"date":"' .. place.day
    .. '","orario":' .. cjson.encode(record.label) .. ',"status":"' .. status .. '"' .. ends .. data
    .. '},"timestamp":"' .. rfc3339(now) .. '","epoch":"' .. epoch .. '","version":' .. text(version) .. '}'
end

-- The JSON of the slots of a day that were freed, ascending.
local function freed_slots(place, numbers)
  return '{"spazioId":' .. place.space .. ',"sedeId":' .. place.site .. ',"date":"' .. place.day .. '","slots":['
    .. table.concat(numbers, ',') .. ']}'
end

-- A hold's members in the index of ends and in the index of users.
local function hold_members(place, number, r)
  local length = r.length and '\n' .. text(r.length) or ''
  return table.concat({ place.site, place.space, place.day, number, r.user, r.token, r.label }, '\n') .. length,
    table.concat({ r.user, place.site, place.space, place.day, number, r.token, text(r.index_ends or r.ends), r.label }, '\n')
end

local function is_users_booking(record)
  return record and record.state == 'b' and (record.user or '') ~= ''
end

-- A booking's member in the index of bookings.
local function booking_member(place, number, r)
  return table.concat({ r.user, place.day, place.site, place.space, number, text(r.start), r.finish, r.label,
    r.began or '' }, '\n')
end

-- Adds a day of a space to the index of days, and removes days from it whose slots are forgotten.
local function remember_place(key, place)
  local number = string.gsub(place.day, '-', '')
  redis.call('ZADD', key, number, place.site .. ':' .. place.space .. ':' .. number)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. day_number(now - 32 * 86400000))
end

-- The removals that a script has still to make: key to members. `forget_all` makes them at the end of the writing, because
-- the last member takes the key with it. In a Cluster, while a slot moves to another server, a missing key is looked for
-- there, so every later command on the key would fail, with half of the writing done.
local forgotten = {}

local function forget(key, member)
  forgotten[key] = forgotten[key] or {}
  forgotten[key][member] = true
end

local function is_forgotten(key, member)
  return forgotten[key] ~= nil and forgotten[key][member] ~= nil
end

-- A member that was added again, such as an extended hold, stays.
local function remember(key, member)
  if forgotten[key] then forgotten[key][member] = nil end
end

local function remember_hold(ends, holds, place, number, record)
  local end_member, hold_member = hold_members(place, number, record)
  redis.call('ZADD', ends, text(record.index_ends or record.ends), end_member)
  redis.call('ZADD', holds, 0, hold_member)
  remember(ends, end_member)
  remember(holds, hold_member)
end

local function forget_hold(ends, holds, place, number, record)
  local end_member, hold_member = hold_members(place, number, record)
  forget(ends, end_member)
  forget(holds, hold_member)
end

-- Calls a command on a key with any number of members. Lua passes only some thousands at a time.
local function call_with_all(command, key, members)
  for first = 1, #members, 4000 do
    redis.call(command, key, unpack(members, first, math.min(first + 3999, #members)))
  end
end

-- Adds texts to a reply. Lua returns only some thousands from one `unpack`.
local function add_all(reply, texts)
  for _, item in ipairs(texts) do reply[#reply + 1] = item end
  return reply
end

-- Removes the noted members of a key by `command` (HDEL or ZREM). The script may not touch the key afterwards.
local function forget_all(command, key)
  local members = {}
  for member in pairs(forgotten[key] or {}) do members[#members + 1] = member end
  call_with_all(command, key, members)
end

-- The bucket's journal; nil if no entry is written. A script opens it once it knows the bucket's format. `store/journal.rs`
-- describes the entries.
local journal = nil

-- `about` has a line for each of these: the act's name, the most entries that are kept ('0': none is written), for how many
-- days people are kept, the generation of people, the actor or '', the actor's role or '', the request's id or ''.
local function open_journal(key, people, about)
  local name, max, days, generation, actor, role, request =
    string.match(about, '^([^\n]*)\n(%d+)\n(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
  if format < 2 or max == '0' then return end
  journal = { key = key, people = people, name = name, max = max, days = days, generation = generation, actor = actor,
    role = role, request = request, entries = {}, references = {}, new_people = {} }
end

-- Notes an entry, a table with `act`, `place` (`site`, `space`, `day` or nil), `slots`, `status` (as in records) or nil,
-- `version`, `user` or nil, `taken` (tables of `user` and `slots`) or nil, and `by_actor`. `write_journal` writes it.
local function note_entry(entry)
  journal.entries[#journal.entries + 1] = entry
end

-- Reads the references of all people in the noted entries, before anything is written. People without one get one.
local function look_up_people()
  if not journal or #journal.entries == 0 then return end
  local users, seen = {}, {}
  local function add(user)
    if user and user ~= '' and not seen[user] then
      seen[user] = true
      users[#users + 1] = user
    end
  end
  for _, entry in ipairs(journal.entries) do
    if entry.by_actor then add(journal.actor) end
    add(entry.user)
    for _, taken in ipairs(entry.taken or {}) do add(taken.user) end
  end
  if #users == 0 then return end
  local fields = { 'n' }
  for i, user in ipairs(users) do fields[i + 1] = 'u' .. user end
  local known = redis.call('HMGET', journal.people, unpack(fields))
  local count, new = tonumber(known[1] or '0'), {}
  for i, user in ipairs(users) do
    local reference = known[i + 1]
    if not reference then
      count = count + 1
      reference = text(count)
      add_all(new, { 'u' .. user, reference, 'r' .. reference, user })
    end
    journal.references[user] = reference
  end
  if #new > 0 then journal.new_people = add_all({ 'n', text(count) }, new) end
end

local function entry_text(entry, epoch)
  local function reference(user)
    return user and journal.references[user] or ''
  end
  local taken = {}
  for i, from in ipairs(entry.taken or {}) do
    taken[i] = reference(from.user) .. ':' .. table.concat(from.slots, ',')
  end
  local actor, role, request = '', '', ''
  if entry.by_actor and journal.actor ~= '' then actor, role = reference(journal.actor), journal.role end
  if entry.by_actor then request = journal.request end
  return table.concat({ text(now), entry.act, epoch, entry.place.site, entry.place.space, entry.place.day or '',
    table.concat(entry.slots, ','), entry.status or '', text(entry.version), journal.generation, actor, role,
    reference(entry.user), table.concat(taken, ';'), request }, '\n')
end

-- Writes the noted entries, right after the topic's mark and before the changes that they tell of. So `repair.lua` can
-- remove an entry of an act that was not done, and an act that was done always has its entry. People are written first, so
-- that no reference is used twice. With `is_bounded`, entries beyond the bound are removed.
local function write_journal(epoch, is_bounded)
  if not journal or #journal.entries == 0 then return end
  if #journal.new_people > 0 then
    call_with_all('HSET', journal.people, journal.new_people)
    redis.call('PEXPIRE', journal.people, text((tonumber(journal.days) + 62) * 86400000))
  end
  for _, entry in ipairs(journal.entries) do
    local line = entry_text(entry, epoch)
    if is_bounded then
      redis.call('XADD', journal.key, 'MAXLEN', '~', journal.max, '0-*', 'j', line)
    else
      redis.call('XADD', journal.key, '0-*', 'j', line)
    end
  end
end
