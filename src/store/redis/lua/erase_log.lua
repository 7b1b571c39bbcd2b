#!lua
-- Trims a topic's log so that no entry names a user. Clients that have not seen the trimmed entries get a snapshot, as
-- after any log that is too short.
--
-- KEYS[1]  the bucket's fence
-- KEYS[2]  the topic's log
-- ARGV[4]  the user
-- ARGV[5]  the beginning of the payload of a notification to the user
--
-- ARGV[6]  the version up to which entries count, '' for all
--
-- Reply: an array of texts: 'done'; or 'wait', for how many milliseconds, and the version up to which entries count then: the
-- caller of a recent act may still look for it in the log, and nothing was trimmed.

-- How many entries are read at a time. Entries of a bucket may be large.
local AT_ONCE = 64

-- After this many milliseconds no caller looks for its act in the log: a call takes less than a second, including its
-- repeats.
local SETTLED_MILLIS = 1500

fence(KEYS[1])
local user, notification, up_to = ARGV[4], ARGV[5], ARGV[6]

local function names_user(fields)
  if fields.k == 'user' then return string.sub(fields.p, 1, #notification) == notification end
  if not fields.o then return false end
  local is_json, owned = pcall(cjson.decode, fields.o)
  return not is_json or type(owned) ~= 'table' or owned.u == user
end

local function last_that_names()
  local before = up_to == '' and '+' or up_to .. '-0'
  while true do
    local entries = redis.call('XREVRANGE', KEYS[2], before, '-', 'COUNT', AT_ONCE)
    for _, entry in ipairs(entries) do
      local fields = fields_of(entry)
      if names_user(fields) then return entry[1], tonumber(fields.t) end
      before = '(' .. entry[1]
    end
    if #entries < AT_ONCE then return nil end
  end
end

local last, at = last_that_names()
if not last then return { 'done' } end
local version = string.match(last, '^%d+')
if at and at <= now and now - at < SETTLED_MILLIS then return { 'wait', text(SETTLED_MILLIS - (now - at)), version } end
redis.call('XTRIM', KEYS[2], 'MINID', text(tonumber(version) + 1) .. '-0')
return { 'done' }
