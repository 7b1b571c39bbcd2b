#!lua
-- Remembers a caller's call under an Idempotency-Key in the caller's own bucket, so that the same key is recognized in
-- another space.
--
-- KEYS[1]  the caller's calls in the bucket
-- ARGV[4]  the digest of the Idempotency-Key
-- ARGV[5]  the digest of the call
--
-- Reply: 'remembered', or 'known' when a call was remembered under the key already.

if recall(KEYS[1], 'c', ARGV[4]) then return { 'known', text(now) } end
remember_call(KEYS[1], 'c', ARGV[4], ARGV[5])
return { 'remembered', text(now) }
