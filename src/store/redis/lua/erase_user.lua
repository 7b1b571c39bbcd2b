#!lua
-- Erases what a bucket keeps under a user's id, once the user has no hold and no booking in it. The journal's references
-- mean another id afterwards; remembered calls and notifications are deleted.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the bucket's holds by their user
-- KEYS[3]  the bucket's bookings by their user
-- KEYS[4] and on: the people of the journal's generations, as many as ARGV[10] says; and then what is deleted
-- ARGV[4]  the user
-- ARGV[5]  the id that takes the user's place
-- ARGV[6], ARGV[7]  the end of the range of holds before the user's, and the begin of the range after
-- ARGV[8], ARGV[9]  the same of bookings
-- ARGV[10] how many generations there are
--
-- Reply: an array of one text: 'done'; 'taken', when the user has a hold; or 'more', when the user has a booking. Then nothing
-- was written.

fence(KEYS[1])
if format < 2 then error({ err = 'FENCE this bucket has format 1' }) end
local user, stand_in, last_people = ARGV[4], ARGV[5], 3 + tonumber(ARGV[10])
if #redis.call('ZRANGEBYLEX', KEYS[2], ARGV[6], ARGV[7], 'LIMIT', 0, 1) > 0 then return { 'taken' } end
if #redis.call('ZRANGEBYLEX', KEYS[3], ARGV[8], ARGV[9], 'LIMIT', 0, 1) > 0 then return { 'more' } end
local references = {}
for i = 4, last_people do references[i] = redis.call('HGET', KEYS[i], 'u' .. user) end

-- The meaning of the reference comes first. If the server refuses something in between, the next run finds the
-- reference and does the rest.
for i = 4, last_people do
  local reference = references[i]
  if reference then
    redis.call('HSET', KEYS[i], 'r' .. reference, stand_in, 'u' .. stand_in, reference)
    redis.call('HDEL', KEYS[i], 'u' .. user)
  end
end
for i = last_people + 1, #KEYS do redis.call('DEL', KEYS[i]) end
return { 'done' }
