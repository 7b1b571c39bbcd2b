#!lua
-- Sets slots as staff says. `act.lua` names KEYS and the reply.
--
-- ARGV[15]  'available', 'booked' or 'blocked'
-- ARGV[16]  staff's object as JSON, '' without one; stored and shown digit for digit
-- ARGV[17]  with 'booked': the user of the booking, '' to leave a booking to its user

local to, data, user = ARGV[15], ARGV[16], ARGV[17]
local STATES = { available = 'a', booked = 'b', blocked = 'c' }

-- The most bytes of staff's objects on a day.
local MAX_DAY_DATA_BYTES = 262144

local function bytes_of(record)
  return #(record and record.data or '')
end

-- Whether the day's objects would exceed that bound.
local function is_too_large()
  local growth = #data * #slots
  for _, slot in ipairs(slots) do growth = growth - bytes_of(slot.record) end
  if growth <= 0 then return false end
  local day, before = redis.call('HGETALL', KEYS[4]), 0
  for i = 2, #day, 2 do before = before + bytes_of(parse_record(day[i])) end
  return before + growth > MAX_DAY_DATA_BYTES
end

return act(function()
  local refusal = refuse_where('past', function(slot)
    return status_of(slot.record, slot.start) == 'past'
  end)
  if not refusal and is_too_large() then refusal = { code = 'too_large', conflicts = {} } end
  return refusal or {
    becomes = function(slot)
      local was = slot.record
      -- An existing booking keeps its user unless another user is named. It also keeps the answer to a repeated `book`.
      local stays = to == 'booked' and was and was.state == 'b' and (user == '' or user == was.user)
      return {
        state = STATES[to], user = stays and was.user or user, data = data,
        began = to == 'booked' and (stays and was.began or not stays and text(now)) or nil,
        first_version = stays and was.first_version or nil, first_epoch = stays and was.first_epoch or nil,
      }
    end,
  }
end)
