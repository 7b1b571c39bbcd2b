#!lua
-- Confirms what is held. Before it stand `common.lua` and `act.lua`, which name KEYS and reply.
--
-- ARGV[15]  whose hold, '' for anyone's
-- ARGV[16]  the hold's token, '' when none was sent

local actor, token = ARGV[15], ARGV[16]

-- The last version under which the named slots were booked, when the actor has booked them all.
local function booked_version()
  local version = 0
  for _, slot in ipairs(slots) do
    if not is_booked_by(slot.record, actor) then return end
    version = math.max(version, tonumber(slot.record.first_version))
  end
  return version
end

return act(function()
  local version = booked_version()
  if version then return { version = text(version), answer = '\n' } end
  return require_held(actor, token) or {
    becomes = function(slot)
      return { state = 'b', user = slot.record.user }
    end,
  }
end)
