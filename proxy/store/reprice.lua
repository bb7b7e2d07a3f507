#!lua
-- Writes corrections, a batch at a time, for whoever re-prices the ledger: one at a time, known by a token.
--
-- KEYS  1 who re-prices now, 2 the ledger's stream, 3 the audit's stream
-- ARGV  1 the token, 2 seconds that it holds, 3 and 4 prefixes of committed and sums, 5 what to do, then
--   'begin', audit line  answers 1, or 0 while another token holds
--   'apply', number of this batch, MessagePack: {{reversal, replacement, remembered, field, is_parked}, …}
--                        answers {1 or 0, …}: 0 for an entry that was corrected meanwhile; the same again for a batch
--                        that comes again
--   'end', audit line    answers 1, or 0 where it has ended
--
-- `reversal` and `replacement` are charges {id, {{account, …}, …}, nanos, day, row, {kind, quantity, …}, line}, as in
-- apply.lua. `remembered` is the hash with the charge that takes a presumed entry back, or '': what is written there
-- must take back the replacement from now on. Amounts are decimal strings: a Lua number is exact only to 2^53.

local state, ledger, audit = unpack(KEYS)
local token, seconds, COMMITTED, SUMS, action = unpack(ARGV, 1, 5)
local CEILING = 19 -- digits of the largest int64

local holder = redis.call('HGET', state, 'token')
if action == 'begin' then
  if holder then return holder == token and 1 or 0 end
  redis.call('HSET', state, 'token', token, 'number', '0')
  redis.call('EXPIRE', state, seconds)
  redis.call('XADD', audit, '*', 'e', ARGV[6])
  return 1
end
if holder ~= token then
  if action == 'end' then return 0 end
  return redis.error_reply('SUPERSEDED somebody else re-prices now')
end
if action == 'end' then
  redis.call('XADD', audit, '*', 'e', ARGV[6])
  redis.call('DEL', state)
  return 1
end

local this, before, answered = ARGV[6], unpack(redis.call('HMGET', state, 'number', 'answers'))
if this == before then return cmsgpack.unpack(answered) end

-- Every key is looked at before the first write: what is no number, has no room, or has left with a moving slot of a
-- cluster, fails here.
local there = {} -- accounts that have not expired
local function check(name, value)
  if value and (not value:find('^%-?%d+$') or #value >= CEILING) then
    error({ err = 'WRONG ' .. name .. ' is no number, or has no room' })
  end
  return value
end
local function look(charge)
  for _, account in ipairs(charge[2]) do
    local name = COMMITTED .. account[1]
    if there[name] == nil then there[name] = check(name, redis.call('GET', name)) and true end
  end
  for i = 1, #charge[6], 2 do
    check(SUMS .. charge[4], redis.call('HGET', SUMS .. charge[4], charge[5] .. charge[6][i]))
  end
end
local corrections = cmsgpack.unpack(ARGV[7])
local prefixes = {} -- what stands before the charge that takes a presumed entry back; false: it was told meanwhile
redis.call('XLEN', ledger)
for i, correction in ipairs(corrections) do
  local reversal, replacement, remembered, _, is_parked = unpack(correction)
  look(reversal)
  look(replacement)
  prefixes[i] = ''
  if remembered ~= '' then
    local value = redis.call('HGET', remembered, reversal[1])
    if is_parked == 1 then prefixes[i] = value and value:match('^.-\n!') or false end
    if not value then prefixes[i] = false end
  end
end

local function write(charge)
  for _, account in ipairs(charge[2]) do
    local name = COMMITTED .. account[1]
    if there[name] then redis.call('INCRBY', name, charge[3]) end
  end
  for i = 1, #charge[6], 2 do
    redis.call('HINCRBY', SUMS .. charge[4], charge[5] .. charge[6][i], charge[6][i + 1])
  end
  redis.call('XADD', ledger, '*', 'e', charge[7])
end
local answers = {}
for i, correction in ipairs(corrections) do
  local reversal, replacement, remembered, back = unpack(correction)
  answers[i] = 0
  if prefixes[i] then
    write(reversal)
    write(replacement)
    if remembered ~= '' then redis.call('HSET', remembered, reversal[1], prefixes[i] .. cmsgpack.pack(back)) end
    answers[i] = 1
  end
end
redis.call('HSET', state, 'number', this, 'answers', cmsgpack.pack(answers))
redis.call('EXPIRE', state, seconds)
return answers
