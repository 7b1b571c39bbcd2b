#!lua
-- Removes entries of a bucket's journal that are too old, but never the last one: a reader compares its place with it.
--
-- KEYS[1]  the bucket's journal
-- ARGV[4]  for how many days an entry is kept
--
-- Reply: an array of one text: '1' when there may be more to remove, else '0'.

-- How many entries one run checks.
local AT_ONCE = 500

local oldest = now - tonumber(ARGV[4]) * 86400000
local entries, keep = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', AT_ONCE), nil
for _, entry in ipairs(entries) do
  keep = entry[1]
  -- An unreadable entry counts as old as the one before it.
  local at = tonumber(string.match(fields_of(entry).j or '', '^(%d+)\n'))
  if at and at >= oldest then break end
end
if not keep or keep == entries[1][1] then return { '0' } end
redis.call('XTRIM', KEYS[1], 'MINID', keep)
return { #entries == AT_ONCE and keep == entries[#entries][1] and '1' or '0' }
