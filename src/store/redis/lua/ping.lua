#!lua
-- Tells the store's time on the server that takes acts. A server that is read-only, full or without its replicas refuses
-- this script as it would refuse an act.
--
-- KEYS[1]  a bucket's fence
--
-- Reply: an array of one text: now in ms.

fence(KEYS[1])
return { text(now) }
