-- The records of slots, and the present state that follows from them. It stands after `common.lua`.

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
-- A hold lasts at most as long from any instant as it did when its end was set. If the server's clock has gone back
-- since, `ends` is earlier than `index_ends`, the end in the indexes.
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
