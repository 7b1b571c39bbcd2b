#!lua
-- Takes free slots for a user, all or none. `act.lua` names KEYS and the reply.
--
-- ARGV[15]  the user
-- ARGV[16]  the token of the new hold
-- ARGV[17]  how long it lasts, in ms; it never ends after a slot's start
-- ARGV[18]  how many live holds the user may have in the space, a colon, and how many slots with these; '' for any number

local user, token, millis = ARGV[15], ARGV[16], tonumber(ARGV[17])
local max_holds, max_held = string.match(ARGV[18], '^(%d*):(%d*)$')

-- The first answer, if the named slots are exactly the slots of one live hold of the user.
local function same_hold()
  local first = slots[1].record
  if not is_live(first) or first.user ~= user then return end
  local named, ends, version, epoch = {}, nil, 0, nil
  for _, slot in ipairs(slots) do named[slot.number] = true end
  local day, count = redis.call('HGETALL', KEYS[4]), 0
  for i = 1, #day, 2 do
    local record = parse_record(day[i + 1])
    if is_live(record) and record.token == first.token then
      if not named[day[i]] then return end
      count = count + 1
      ends = math.min(ends or math.huge, tonumber(record.first_ends))
      if tonumber(record.first_version) > version then
        version, epoch = tonumber(record.first_version), record.first_epoch
      end
    end
  end
  if count == #slots then
    return { epoch = epoch, version = text(version), answer = first.token .. '\n' .. text(ends) }
  end
end

-- The number of the user's live holds in the space, over all days, and of their slots.
local function count_live_holds()
  local prefix = user .. '\n' .. place.site .. '\n' .. place.space .. '\n'
  local seen, count, held = {}, 0, 0
  for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[7], '[' .. prefix, '(' .. prefix .. '\255')) do
    local of, ends = string.match(string.sub(member, #prefix + 1), '^[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)')
    if now < tonumber(ends) then
      held = held + 1
      if not seen[of] then count = count + 1 end
      seen[of] = true
    end
  end
  return count, held
end

local function are_too_many()
  if max_holds == '' and max_held == '' then return false end
  local count, held = count_live_holds()
  return (max_holds ~= '' and count >= tonumber(max_holds)) or (max_held ~= '' and held + #slots > tonumber(max_held))
end

return act(function()
  local refusal = same_hold()
    or refuse_where('past', function(slot) return slot.start <= now end)
    or refuse_where('slot_unavailable', function(slot)
      return status_of(slot.record, slot.start) ~= 'available'
    end)
  if refusal then return refusal end
  if are_too_many() then return { code = 'too_many_holds', conflicts = {} } end
  return {
    with_hold = true,
    becomes = function(slot)
      local ends = math.min(now + millis, slot.start)
      return { state = 'h', user = user, token = token, began = text(now), ends = ends, first_ends = text(ends) }
    end,
  }
end)
