#!lua
-- Sets what staff says. Before it stand `common.lua` and `act.lua`, which name KEYS and reply.
--
-- ARGV[15]  'available', 'booked' or 'blocked'
-- ARGV[16]  staff's object as JSON, '' without one; stored and shown digit for digit

local to, data = ARGV[15], ARGV[16]
local STATES = { available = 'a', booked = 'b', blocked = 'c' }

return act(function()
  local refusal = refuse_where('past', function(slot)
    return status_of(slot.record, slot.start) == 'past'
  end)
  return refusal or {
    becomes = function(slot)
      local was = slot.record
      -- An existing booking keeps its user, and what a repeated `book` is answered.
      local stays = to == 'booked' and was and was.state == 'b'
      return {
        state = STATES[to], user = stays and was.user or '', first_version = stays and was.first_version or nil, data = data,
      }
    end,
  }
end)
