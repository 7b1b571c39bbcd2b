#!lua
-- Gives bookings of a user to the id that replaces the user's. A booking that has not started stays, and must be released
-- first. None of this is public: no version is taken, and nothing is announced.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's bookings by their user
-- KEYS[3] and on, one a booking: the slots of its day
-- ARGV[4]  the user
-- ARGV[5]  the id that takes the user's place
-- ARGV[6] and on, one a booking: its member of the index
--
-- Reply: an array of one text: 'done'; or 'taken', when one of the bookings has not started, and nothing was written.

fence(KEYS[1])
if format < 2 then error({ err = 'FENCE this bucket has format 1' }) end
local user, stand_in = ARGV[4], ARGV[5]

-- Lines 2 to 5 of a member: the day, the site, the space and the slot.
local PLACE = '^[^\n]*\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n'

local bookings = {}
for i = 3, #KEYS do
  local member = ARGV[i + 3]
  local day, site, space, number = string.match(member, PLACE)
  local value = number and redis.call('HGET', KEYS[i], number)
  local record = value and parse_record(value)
  local is_booked = record and record.state == 'b'
  if is_booked and record.user == user and record.start > now then return { 'taken' } end
  bookings[i - 2] = {
    member = member, day_key = KEYS[i], number = number, place = { day = day, site = site, space = space },
    -- This includes bookings that an earlier run has given away but not indexed.
    record = is_booked and (record.user == user or record.user == stand_in) and record or nil,
  }
end

-- The index comes first and the old member last. If the server refuses something in between, the next run finds the old
-- member and does the rest.
for _, booking in ipairs(bookings) do
  local record = booking.record
  if record then
    record.user = stand_in
    redis.call('ZADD', KEYS[2], 0, booking_member(booking.place, booking.number, record))
    redis.call('HSET', booking.day_key, booking.number, record_text(record))
  end
  forget(KEYS[2], booking.member)
end
forget_all('ZREM', KEYS[2])
return { 'done' }
