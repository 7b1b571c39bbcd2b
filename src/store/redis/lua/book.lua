#!lua
-- Books held slots. `act.lua` names KEYS and the reply.
--
-- ARGV[15]  the user who must have the hold, '' for anyone
-- ARGV[16]  the hold's token, '' when none was sent

local actor, token = ARGV[15], ARGV[16]

-- If the actor has booked all named slots: the last version under which one was booked, with its epoch.
local function booked_at()
  local version, epoch = 0, nil
  for _, slot in ipairs(slots) do
    if not is_booked_by(slot.record, actor) then return end
    if tonumber(slot.record.first_version) > version then
      version, epoch = tonumber(slot.record.first_version), slot.record.first_epoch
    end
  end
  return version, epoch
end

return act(function()
  local version, epoch = booked_at()
  if version then return { epoch = epoch, version = text(version), answer = '\n' } end
  return require_held(actor, token) or {
    becomes = function(slot)
      return { state = 'b', user = slot.record.user, began = text(now) }
    end,
  }
end)
