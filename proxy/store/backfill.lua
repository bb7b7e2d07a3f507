#!lua
-- Counts lines of the ledger for a budget that was not there when they were written, once: from one place to another.
--
-- KEYS  1 how far each series was counted, 2 what accounts began with, 3 what is known of all that was trimmed
-- ARGV  1-3 prefixes of committed, held and owners, 4 the series, 5 the place up to which it was counted (empty: never),
--       6 the place up to which it is counted now, 7 the oldest place that has to be there still (empty: any),
--       8 when the accounts expire (empty: never), 9 MessagePack: {account, nanos, owner, account, nanos, owner, …}
-- Returns 1; 0 where somebody else has counted on meanwhile; -1 where lines that nobody counted were trimmed.
--
-- Amounts are decimal strings: a Lua number is exact only to 2^53.

local counted, opening, trimmed = unpack(KEYS)
local COMMITTED, HELD, OWNERS, series, before, now, needed, expires_at = unpack(ARGV, 1, 8)
local accounts = cmsgpack.unpack(ARGV[9])

-- a > b for places in a stream: milliseconds and a number, each below 2^53.
local function later(a, b)
  local a_millis, a_number = a:match('^(%d+)%-(%d+)$')
  local b_millis, b_number = b:match('^(%d+)%-(%d+)$')
  if a_millis ~= b_millis then return tonumber(a_millis) > tonumber(b_millis) end
  return tonumber(a_number) > tonumber(b_number)
end

if (redis.call('HGET', counted, series) or '') ~= before then return 0 end
local gone = redis.call('HGET', trimmed, 'place')
local from = before ~= '' and before or needed
if gone and (from == '' or later(gone, from)) then return -1 end

local there = {}
for i = 1, #accounts, 3 do
  local key = accounts[i]
  for _, value in ipairs({ redis.call('GET', COMMITTED .. key) or '0', redis.call('HGET', opening, key) or '0' }) do
    if not value:find('^%-?%d+$') then error({ err = 'WRONG ' .. COMMITTED .. key .. ' is not a number' }) end
  end
  there[i] = redis.call('EXISTS', COMMITTED .. key, HELD .. key) == 2
end
for i = 1, #accounts, 3 do
  local key, nanos, owner = accounts[i], accounts[i + 1], accounts[i + 2]
  redis.call('INCRBY', COMMITTED .. key, nanos)
  redis.call('HINCRBY', opening, key, nanos)
  if not there[i] then
    redis.call('INCRBY', HELD .. key, 0)
    if owner ~= '' then redis.call('SADD', OWNERS .. series, owner) end
    if expires_at ~= '' then
      redis.call('EXPIREAT', COMMITTED .. key, expires_at)
      redis.call('EXPIREAT', HELD .. key, expires_at)
      if owner ~= '' then redis.call('EXPIREAT', OWNERS .. series, expires_at) end
    end
  end
end
redis.call('HSET', counted, series, now)
return 1
