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
    role = role, request = request, entries = {}, references = {} }
end

-- Notes an entry, a table with `act`, `place` (`site`, `space`, `day` or nil), `slots`, `status` (as in records) or nil,
-- `version`, `user` or nil, `taken` (tables of `user` and `slots`) or nil, and `by_actor`. `write_journal` writes it.
local function note_entry(entry)
  journal.entries[#journal.entries + 1] = entry
end

-- Stands for a list that is missing.
local NONE = {}

-- Adds a user's field to `fields`, once.
local function ask_for(user, fields)
  if not user or user == '' or journal.references[user] then return end
  journal.references[user] = ''
  fields[#fields + 1] = 'u' .. user
end

-- Reads the references of all people in the noted entries, before anything is written. People without one get one. Each table
-- that this makes is a part of the cost of every act.
local function look_up_people()
  if not journal or #journal.entries == 0 then return end
  local fields = { 'n' }
  for _, entry in ipairs(journal.entries) do
    if entry.by_actor then ask_for(journal.actor, fields) end
    ask_for(entry.user, fields)
    for _, taken in ipairs(entry.taken or NONE) do ask_for(taken.user, fields) end
  end
  if #fields == 1 then return end
  local known = redis.call('HMGET', journal.people, unpack(fields))
  local count, new = known[1] or '0', nil
  for i = 2, #fields do
    local user, reference = string.sub(fields[i], 2), known[i]
    if not reference then
      count = text(tonumber(count) + 1)
      reference, new = count, add_all(new or { 'n', '' }, { fields[i], count, 'r' .. count, user })
      -- The count comes first, so that no reference is used twice if only a part is written.
      new[2] = count
    end
    journal.references[user] = reference
  end
  journal.new_people = new
end

local function taken_text(taken)
  local parts = {}
  for i, from in ipairs(taken) do
    parts[i] = journal.references[from.user] .. ':' .. table.concat(from.slots, ',')
  end
  return table.concat(parts, ';')
end

local function entry_text(entry, epoch)
  local references, place = journal.references, entry.place
  local actor, role, request = '', '', ''
  if entry.by_actor then
    request = journal.request
    if journal.actor ~= '' then actor, role = references[journal.actor], journal.role end
  end
  -- This is one expression, because Lua then makes no texts of its parts.
  return now_text .. '\n' .. entry.act .. '\n' .. epoch .. '\n' .. place.site .. '\n' .. place.space .. '\n'
    .. (place.day or '') .. '\n' .. table.concat(entry.slots, ',') .. '\n' .. (entry.status or '') .. '\n'
    .. text(entry.version) .. '\n' .. journal.generation .. '\n' .. actor .. '\n' .. role .. '\n'
    .. (entry.user and references[entry.user] or '') .. '\n' .. (entry.taken and taken_text(entry.taken) or '') .. '\n'
    .. request
end

-- Writes the noted entries, right after the topic's mark and before the changes that they tell of. So `repair.lua` can
-- remove an entry of an act that was not done, and an act that was done always has its entry. People are written first, so
-- that no reference is used twice. With `is_bounded`, entries beyond the bound are removed.
local function write_journal(epoch, is_bounded)
  if not journal or #journal.entries == 0 then return end
  if journal.new_people then
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
