// Looks for a text in all that a store keeps, and says where it is.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Reads every key of a server as a whole, and answers those with ARGV[1] in their name or in what they hold. */
const SEARCH = `
  local READ = {
    hash = { 'HGETALL' }, string = { 'GET' }, zset = { 'ZRANGE', 0, -1 }, stream = { 'XRANGE', '-', '+' },
  }
  local function has(value)
    if type(value) ~= 'table' then return string.find(value, ARGV[1], 1, true) ~= nil end
    for _, part in ipairs(value) do
      if has(part) then return true end
    end
    return false
  end
  local found = {}
  for _, key in ipairs(redis.call('KEYS', '*')) do
    local read = READ[redis.call('TYPE', key).ok]
    local value = redis.call(read[1], key, unpack(read, 2))
    if has(key) or has(value) then found[#found + 1] = key end
  end
  return found`;

/** The keys of Redis servers that have a text in their name or in what they hold. */
export async function placesInRedis(servers, text) {
  const found = await Promise.all(servers.map((server) => server.ask('EVAL', SEARCH, 0, text)));
  return found.flat();
}

/** The files of a folder that have a text among their bytes. */
export function placesInFolder(folder, text) {
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  return files.map(({ name }) => name).filter((name) => readFileSync(join(folder, name)).includes(text));
}
