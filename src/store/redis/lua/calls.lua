-- The calls that a caller made under an Idempotency-Key. It stands after `common.lua`.

-- How many calls of one caller a bucket remembers, of each kind. A new call replaces the oldest.
local CALLS_KEPT = 256

-- What the hash `key` remembers of a call under the digest of its Idempotency-Key; nil if nothing, or if it is too old.
-- `kind` is 'k' for calls in this bucket's spaces, 'c' for all calls of the caller.
local function recall(key, kind, digest)
  local kept = redis.call('HGET', key, kind .. digest)
  if not kept then return end
  local at, value = string.match(kept, '^%d+\n(%d+)\n(.*)$')
  if tonumber(at) + KEEP_MILLIS > now then return value end
end

-- Remembers a call. The fields of the hash are: the kind with `n`, the number of calls; the kind with `s` and an index of
-- the ring, the digest at that index; the kind with a digest, the call's number, its instant in ms and the value, a line
-- each.
local function remember_call(key, kind, digest, value)
  local number = tonumber(redis.call('HGET', key, kind .. 'n') or '0') + 1
  local place = kind .. 's' .. text(number % CALLS_KEPT)
  local oldest = redis.call('HGET', key, place)
  redis.call('HSET', key, kind .. 'n', text(number), place, digest,
    kind .. digest, text(number) .. '\n' .. now_text .. '\n' .. value)
  if oldest then
    -- A call that came again since then has a later number, and stays.
    local of = string.match(redis.call('HGET', key, kind .. oldest) or '', '^%d+')
    if of and tonumber(of) <= number - CALLS_KEPT then redis.call('HDEL', key, kind .. oldest) end
  end
  redis.call('PEXPIRE', key, KEEP_MILLIS)
end
