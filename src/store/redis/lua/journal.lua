-- The entries of acts in the journal of their bucket. It stands after `common.lua`.

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
