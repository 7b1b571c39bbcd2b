#!lua
-- Rewrites the records of a day that have an older format than the bucket. Their content stays, so no version is taken.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the day's slots
--
-- Reply: an array of texts: how many records were rewritten, how many there are, then the numbers of the slots whose record
-- cannot be read ...

fence(KEYS[1])
local slots, rewritten, unreadable = redis.call('HGETALL', KEYS[2]), {}, {}
for i = 1, #slots, 2 do
  local record = parse_record(slots[i + 1])
  if record.state == 'unreadable' then
    unreadable[#unreadable + 1] = slots[i]
  elseif format >= 2 and string.byte(slots[i + 1]) ~= 123 then
    rewritten[#rewritten + 1] = slots[i]
    rewritten[#rewritten + 1] = record_text(record)
  end
end
call_with_all('HSET', KEYS[2], rewritten)
return add_all({ text(#rewritten / 2), text(#slots / 2) }, unreadable)
