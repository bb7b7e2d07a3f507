#!lua
-- Reads what belongs together at one moment, while the store goes on working. Writes nothing.
--
-- KEYS  1 the ledger's stream, 2 what is known of all that was trimmed, 3 the writers, 4 the parked requests,
--       5 what new budgets began with
-- ARGV  1-6 prefixes of committed, held, trimmed accounts, sums, trimmed sums and a writer's holds,
--       7 MessagePack: {account, …}, or a day
-- Returns {place of the last line, place trimmed up to, …}
--   for accounts: {committed, held, trimmed, opening, …}, {record of a hold, …}: all holds there are, parked ones too
--   for a day: {field, number, …} as it is, {field, number, …} trimmed

local ledger, trimmed, writers, due, opening = unpack(KEYS)
local COMMITTED, HELD, TRIMMED, SUMS, TRIMMED_SUMS, HOLDS = unpack(ARGV, 1, 6)
local wanted = cmsgpack.unpack(ARGV[7])

local newest = redis.call('XREVRANGE', ledger, '+', '-', 'COUNT', 1)
local place = newest[1] and newest[1][1] or '0-0'
local until_place = redis.call('HGET', trimmed, 'place')

if type(wanted) == 'string' then
  return { place, until_place, redis.call('HGETALL', SUMS .. wanted), redis.call('HGETALL', TRIMMED_SUMS .. wanted) }
end

local values = {}
for i, account in ipairs(wanted) do
  local found = redis.call('MGET', COMMITTED .. account, HELD .. account, TRIMMED .. account)
  for j = 1, 3 do values[4 * i + j - 4] = found[j] end
  values[4 * i] = redis.call('HGET', opening, account)
end
local records = {}
for _, writer in ipairs(redis.call('SMEMBERS', writers)) do
  for _, record in ipairs(redis.call('HVALS', HOLDS .. writer)) do records[#records + 1] = record end
end
for _, member in ipairs(redis.call('ZRANGE', due, '0', '-1')) do
  local id, key = member:match('^(%S+) (.*)$')
  local parked = id and redis.call('HGET', key, id)
  local record = parked and parked:match('\n(.*)')
  if record and record:byte() ~= 33 then records[#records + 1] = record end -- `!`: presumed, nothing is held any more
end
return { place, until_place, values, records }
