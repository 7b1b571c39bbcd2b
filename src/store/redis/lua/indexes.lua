-- The indexes of holds, bookings and days. It stands after `records.lua`.

-- A hold's members in the index of ends and in the index of users.
local function hold_members(place, number, r)
  local length = r.length and '\n' .. text(r.length) or ''
  return table.concat({ place.site, place.space, place.day, number, r.user, r.token, r.label }, '\n') .. length,
    table.concat({ r.user, place.site, place.space, place.day, number, r.token, text(r.index_ends or r.ends), r.label }, '\n')
end

local function is_users_booking(record)
  return record and record.state == 'b' and (record.user or '') ~= ''
end

-- A booking's member in the index of bookings.
local function booking_member(place, number, r)
  return table.concat({ r.user, place.day, place.site, place.space, number, text(r.start), r.finish, r.label,
    r.began or '' }, '\n')
end

-- Adds a day of a space to the index of days, and removes days from it whose slots are forgotten.
local function remember_place(key, place)
  local number = string.gsub(place.day, '-', '')
  redis.call('ZADD', key, number, place.site .. ':' .. place.space .. ':' .. number)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. day_number(now - 32 * 86400000))
end

-- The removals that a script still has to make, from key to members. `forget_all` makes them at the end of the writing,
-- because a key goes with its last member. While a slot of a Cluster moves, the server looks for a missing key at the
-- slot's new server. So every later command on the key would fail, with half of the writing done.
local forgotten = {}

local function forget(key, member)
  forgotten[key] = forgotten[key] or {}
  forgotten[key][member] = true
end

local function is_forgotten(key, member)
  return forgotten[key] ~= nil and forgotten[key][member] ~= nil
end

-- A member that was added again stays, for example that of an extended hold.
local function remember(key, member)
  if forgotten[key] then forgotten[key][member] = nil end
end

local function remember_hold(ends, holds, place, number, record)
  local end_member, hold_member = hold_members(place, number, record)
  redis.call('ZADD', ends, text(record.index_ends or record.ends), end_member)
  redis.call('ZADD', holds, 0, hold_member)
  remember(ends, end_member)
  remember(holds, hold_member)
end

local function forget_hold(ends, holds, place, number, record)
  local end_member, hold_member = hold_members(place, number, record)
  forget(ends, end_member)
  forget(holds, hold_member)
end

-- Removes the noted members of a key by `command` (HDEL or ZREM). The script may not touch the key afterwards.
local function forget_all(command, key)
  local members = {}
  for member in pairs(forgotten[key] or {}) do members[#members + 1] = member end
  call_with_all(command, key, members)
end
