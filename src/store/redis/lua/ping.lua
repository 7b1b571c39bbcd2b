#!lua
-- Tells the store's time where acts would be taken: a server that is read-only, full or without its replicas refuses the
-- script, as it would an act.
--
-- KEYS[1]  a bucket's fence
--
-- Reply: an array of one text: now in ms.

fence(KEYS[1])
return { text(now) }
