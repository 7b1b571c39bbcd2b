#!lua
-- Moves the end of holds. `act.lua` names KEYS and the reply.
--
-- ARGV[15]  the user who must have the hold
-- ARGV[16]  the hold's token, '' when none was sent
-- ARGV[17]  how long from now, in ms; it never ends after a slot's start
-- ARGV[18]  the longest that a hold may last from its beginning, in ms

local user, token, millis, max_millis = ARGV[15], ARGV[16], tonumber(ARGV[17]), tonumber(ARGV[18])

return act(function()
  local refusal = require_held(user, token) or refuse_where('hold_limit', function(slot)
    return now + millis > tonumber(slot.record.began) + max_millis
  end)
  return refusal or {
    with_hold = true,
    becomes = function(slot)
      local held = slot.record
      return {
        -- The answer has one token for all slots, so extending several holds joins them into one.
        state = 'h', user = user, token = slots[1].record.token, began = held.began,
        ends = math.min(now + millis, slot.start), first_ends = held.first_ends, first_version = held.first_version,
        first_epoch = held.first_epoch,
      }
    end,
  }
end)
