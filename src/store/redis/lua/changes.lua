-- The changes of slots: the mark of a script that makes them, and the messages about each. It stands after `records.lua`.

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
  return table.concat({ #days > 0 and table.concat(days, ',') or '-', epoch .. ':' .. text(before), now_text,
    table.concat(freed_at, ','), act.id, act.answer, act.calls, act.digests, table.concat(changes, '\n') }, '\n')
end

-- What nodes are told of a slot's owner, as JSON of `domain::own::Owned`; nil if the slot has none, or none is known.
local function owned_of(record)
  local is_held = record.state == 'h'
  if not is_held and record.state ~= 'b' or (record.user or '') == '' then return end
  local hold, began = is_held and ',"t":' .. cjson.encode(record.token) or '', tonumber(record.began)
  return '{"u":' .. cjson.encode(record.user) .. hold .. (began and ',"g":' .. text(began) or '')
    .. ',"b":' .. text(record.start) .. '}'
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
