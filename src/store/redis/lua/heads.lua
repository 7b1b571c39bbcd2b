#!lua flags=allow-oom
-- Where topics of one bucket stand.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2] and on: the heads of the topics
--
-- Reply: an array of texts: epoch, then the version of each topic ...

local reply = { fence(KEYS[1]) }
for i = 2, #KEYS do
  reply[i] = text(version_of(KEYS[i]))
end
return reply
