#!lua
-- Lets go of what is held, or as staff of what is booked. Before it stand `common.lua` and `act.lua`, which name KEYS
-- and reply.
--
-- ARGV[15]  whose hold, '' for anyone's
-- ARGV[16]  the hold's token, '' when none was sent
-- ARGV[17]  '1' when booked slots may be released too, else '0'
-- ARGV[18]  whose booked slots, '' for anyone's

local actor, token, as_staff, booked_by = ARGV[15], ARGV[16], ARGV[17] == '1', ARGV[18]

return act(function()
  local function also(record)
    return as_staff and is_booked_by(record, booked_by)
  end
  return require_held(actor, token, also) or {
    becomes = function()
      return { state = 'a' }
    end,
  }
end)
