#!lua
-- Adds a day of a space to the indexes that slotcast 0.1 did not keep: the bookings by user, and the days of the spaces.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the day's slots
-- KEYS[3]  the bucket's bookings by their user
-- KEYS[4]  the bucket's spaces by day
-- ARGV[4]  the site
-- ARGV[5]  the space
-- ARGV[6]  the day, YYYY-MM-DD
--
-- Reply: an array of one text: how many bookings there are.

fence(KEYS[1])
if format < 2 then error({ err = 'FENCE this bucket has format 1' }) end
local place = { site = ARGV[4], space = ARGV[5], day = ARGV[6] }
local slots, count = redis.call('HGETALL', KEYS[2]), 0
for i = 1, #slots, 2 do
  local record = parse_record(slots[i + 1])
  if is_users_booking(record) then
    count = count + 1
    redis.call('ZADD', KEYS[3], 0, booking_member(place, slots[i], record))
  end
end
if #slots > 0 then remember_place(KEYS[4], place) end
return { text(count) }
