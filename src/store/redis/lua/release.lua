#!lua
-- Frees slots that are held, or booked: booked ones for staff, or for the user who booked them while there is time to
-- cancel. `act.lua` names KEYS and the reply.
--
-- ARGV[15]  the user who must have the hold, '' for anyone
-- ARGV[16]  the hold's token, '' when none was sent
-- ARGV[17]  '1' when staff's own right to release booked slots counts, else '0'; a colon; and until how long before the start
--           who booked a slot may release it, in ms, '' for never
-- ARGV[18]  for staff: the user whose booked slots may be released, '' for anyone's

local actor, token, booked_by = ARGV[15], ARGV[16], ARGV[18]
local is_staff, cancel_before = string.match(ARGV[17], '^([01]):(%d*)$')
-- A token names a hold, so with a token no booking is released.
cancel_before = actor ~= '' and token == '' and tonumber(cancel_before) or nil

return act(function()
  local function as_staff(record)
    return is_staff == '1' and is_booked_by(record, booked_by)
  end
  local function cancels(record)
    return cancel_before ~= nil and is_booked_by(record, actor)
  end
  local function also(record)
    return as_staff(record) or cancels(record)
  end
  return require_held(actor, token, also) or refuse_where('too_late', function(slot)
    return cancels(slot.record) and not as_staff(slot.record) and now > slot.start - cancel_before
  end) or {
    becomes = function()
      return { state = 'a' }
    end,
  }
end)
