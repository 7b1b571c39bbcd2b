#!lua flags=allow-oom
-- The heads of topics of one bucket.
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
