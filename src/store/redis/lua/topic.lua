-- How a script changes a topic (a bucket's, a space's or a user's): its head, its log and its channel. It stands after
-- `common.lua`.

-- An act's entry is looked up in the log. If the oldest entry of a full log is younger than this (ms), the act's entry may
-- have been trimmed already, and nobody can tell whether the act was done.
local YOUNG_MILLIS = 5000

-- How many slots were ever freed in a bucket, by its head. A node whose log does not reach back far enough learns from
-- this how many it missed.
local function freed_of(head)
  return tonumber(redis.call('HGET', head, 'f') or '0')
end

-- The version of a log's last entry; 0 for an empty log.
local function last_of_log(log)
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  return last and tonumber(string.match(last[1], '^%d+')) or 0
end

-- Begins an epoch in the bucket whose fence is `key`.
local function renew_epoch(key)
  local replid = replication_id(nil)
  local epoch = new_epoch(replid)
  redis.call('HSET', key, 'epoch', epoch, 'replid', replid)
  return epoch
end

-- The position of a topic before its next change: version and epoch. `version` is from its head. The head may be
-- missing although the topic has a log, because somebody deleted it or restored a part of a backup. Then versions
-- continue above the log under a new epoch, or else the log would refuse them after the state was written. A new epoch
-- also begins if the caller has seen a later version of the epoch (`known`: epoch and version with a colon between, or
-- ''), because then an older copy has replaced the data.
local function standing(version, log, fence_key, epoch, known)
  local last = tonumber(version or last_of_log(log))
  local known_epoch, known_version = string.match(known or '', '^(.*):(%d+)$')
  local has_gone_back = known_epoch == epoch and tonumber(known_version) > last
  if has_gone_back or not version and last > 0 then epoch = renew_epoch(fence_key) end
  return last, epoch
end

-- Takes versions of a topic, as a script's first effect. From here until `finish` the topic is half done. If the script
-- fails in between, it leaves the mark, which tells `repair.lua` what to do: the text of `mark_of`, or '-'. A version that
-- was taken is never issued again, and nothing is written to the topic before `repair.lua` has run.
local function begin(head, version, mark, ...)
  redis.call('HSET', head, 'v', text(version), 'half', mark, ...)
end

-- Says that the script has done all of its effects.
local function finish(head)
  redis.call('HDEL', head, 'half')
end

-- Publishes a message in the bucket's format, with what nodes are told of the slot's owner, or nil. In a bucket of format 1
-- the message goes to two channels, because nodes of 0.1 listen to the name without a database.
local function publish(channel, epoch, version, kind, payload, owned)
  local head = epoch .. '\n' .. text(version) .. '\n' .. kind .. '\n'
  if format >= 2 then
    local line = '{"at":' .. now_text .. (owned and ',"owned":' .. owned or '') .. '}\n'
    redis.call('PUBLISH', channel, '2\n' .. head .. line .. payload)
    return
  end
  redis.call('PUBLISH', channel, '1\n' .. head .. payload)
  local before, after = string.match(channel, '^(.*)@%d+(:{b%d+}:t.*)$')
  if before then redis.call('PUBLISH', before .. after, '1\n' .. head .. payload) end
end

-- Appends a version to a log and publishes it. `owned` is what nodes are told of the slot's owner, or nil. An act's
-- last entry has the act's id and answer.
local function append(log, channel, epoch, version, kind, payload, owned, act, answer)
  local fields = { 'e', epoch, 'k', kind, 'p', payload, 't', now_text }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if owned and format >= 2 then add('o', owned) end
  if act then
    add('a', act)
    add('r', answer)
  end
  redis.call('XADD', log, 'MAXLEN', '=', LOG_LENGTH, text(version) .. '-0', unpack(fields))
  publish(channel, epoch, version, kind, payload, owned)
end

local function keep(log)
  redis.call('PEXPIRE', log, KEEP_MILLIS)
end

-- Tells the bucket the freed slots of a day: takes the version, counts the slots, and announces them. This is the last
-- effect of a script that may be refused, so that the bucket never lacks slots that it has counted.
local function announce_freed(head, log, channel, epoch, version, payload, count)
  redis.call('HSET', head, 'v', text(version), 'f', text(freed_of(head) + count))
  append(log, channel, epoch, version, 'freed', payload)
  keep(log)
end

-- Looks up an act in a log: its epoch, version and answer; nil if it is not there; and true as the fourth value if it may
-- have been there.
local function find_act(log, act)
  local before, oldest, seen = '+', nil, 0
  while true do
    local entries = redis.call('XREVRANGE', log, before, '-', 'COUNT', 64)
    for _, entry in ipairs(entries) do
      local fields = fields_of(entry)
      if fields.a == act then
        return fields.e, string.match(entry[1], '^%d+'), fields.r
      end
      oldest, before = fields.t, '(' .. entry[1]
    end
    seen = seen + #entries
    if #entries < 64 then break end
  end
  return nil, nil, nil, seen >= LOG_LENGTH and tonumber(oldest) > now - YOUNG_MILLIS
end

-- A copy of an act does nothing after this many ms, because its deadline is at most 900 ms after it was sent.
local COPY_MILLIS = 1000

-- Whether a later copy of an act came before this one. Two copies over two connections may come in either order. The answer
-- to the later copy counts, even if it was a refusal, and this copy does nothing. `copy` is how many copies were sent before
-- this one. `noted` is the field `again` of the topic's head, or nil. The field has a line for each act that was sent again in
-- the last second: the act's id, the number of its last copy, and the instant of that copy in ms, with blanks between. Every
-- copy but the first writes its line.
local function is_outrun(head, act, copy, noted)
  if copy == 0 and not noted then return false end
  local lines, is_late = {}, false
  for id, number, at in string.gmatch(noted or '', '(%S+) (%d+) (%d+)') do
    local is_this = id == act
    is_late = is_late or is_this and tonumber(number) > copy
    -- An instant in the future was noted before the server's clock went back.
    local can_come = math.abs(now - tonumber(at)) < COPY_MILLIS
    if can_come and (is_late or not is_this) then lines[#lines + 1] = id .. ' ' .. number .. ' ' .. at end
  end
  if copy > 0 and not is_late then lines[#lines + 1] = act .. ' ' .. text(copy) .. ' ' .. now_text end
  -- The field stays when it is empty, because the key would go with its last field. `indexes.lua` says why no key may
  -- go so early.
  local after = table.concat(lines, '\n')
  if after ~= noted then redis.call('HSET', head, 'again', after) end
  return is_late
end
