#!lua
-- Folds the oldest lines of the ledger into checkpoint sums, and takes them out of the stream: both or neither.
--
-- KEYS  1 the ledger's stream, 2 what is known of all that was trimmed, 3 there while somebody reads all of it
-- ARGV  1-3 prefixes of committed, trimmed accounts and trimmed sums, 4 and 5 the places of the first and the last line,
--       6 the place after the last one, 7 how many lines, 8 MessagePack: {{account, nanos, …}, {day, {field, number, …}, …}}
-- Returns 1; 0 where the stream does not begin with these lines (any more); -1 where somebody reads.
--
-- Amounts were added up in Python and are decimal strings here: a Lua number is exact only to 2^53.

local ledger, trimmed, reading = unpack(KEYS)
local COMMITTED, ACCOUNTS, SUMS, first, last, next_place = unpack(ARGV, 1, 6)
local count = tonumber(ARGV[7])

if redis.call('EXISTS', reading) == 1 then return -1 end
local lines = redis.call('XRANGE', ledger, '-', last, 'COUNT', count + 1)
if #lines ~= count or lines[1][1] ~= first or lines[count][1] ~= last then return 0 end

local accounts, days = unpack(cmsgpack.unpack(ARGV[8]))

local function check(name, value)
  if value and not value:find('^%-?%d+$') then error({ err = 'WRONG ' .. name .. ' is not a number' }) end
end
-- Every key is looked at before the first write: what a moving slot of a cluster has no more fails here.
local expires_at = {}
redis.call('EXISTS', trimmed)
for i = 1, #accounts, 2 do
  check(ACCOUNTS .. accounts[i], redis.call('GET', ACCOUNTS .. accounts[i]))
  expires_at[i] = redis.call('EXPIRETIME', COMMITTED .. accounts[i])
end
for i = 1, #days, 2 do
  local name, fields = SUMS .. days[i], days[i + 1]
  for j = 1, #fields, 2 do check(name, redis.call('HGET', name, fields[j])) end
end

for i = 1, #accounts, 2 do
  if expires_at[i] ~= -2 then -- an account that has expired has no sum to be checked any more
    redis.call('INCRBY', ACCOUNTS .. accounts[i], accounts[i + 1])
    if expires_at[i] >= 0 then redis.call('EXPIREAT', ACCOUNTS .. accounts[i], string.format('%.0f', expires_at[i])) end
  end
end
for i = 1, #days, 2 do
  local name, fields = SUMS .. days[i], days[i + 1]
  for j = 1, #fields, 2 do redis.call('HINCRBY', name, fields[j], fields[j + 1]) end
end
redis.call('HINCRBY', trimmed, 'lines', count)
redis.call('HSET', trimmed, 'place', last)
redis.call('XTRIM', ledger, 'MINID', next_place)
return 1
