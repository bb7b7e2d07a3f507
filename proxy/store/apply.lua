#!lua
-- Applies a writer's operations in order. Each is idempotent, because after a lost reply the same ones come again.
--
-- KEYS  1 the writer's hash, 2 the writer's holds, 3 the ledger's stream (keys of accounts, sums and owners are made
--       from the prefixes below: all have one hash tag)
-- ARGV  1-4 prefixes of committed, held, owners and sums, 5 seconds that a writer is kept, 6 the connection's token,
--       7 the operations as MessagePack
-- Returns one answer an operation; see operations.py, which knows the same shapes.
--
-- Amounts are decimal strings throughout: a Lua number is exact only to 2^53. They change by INCRBY and HINCRBY
-- (int64) and are compared as text. An operation checks all it can before its first write; what it answers as text
-- is an error that repeating will not mend.

local writer, holds, ledger = KEYS[1], KEYS[2], KEYS[3]
local COMMITTED, HELD, OWNERS, SUMS = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local CEILING = '9200000000000000000' -- nanos; one more amount of at most 10^16 still fits into an int64

local connection = redis.call('HMGET', writer, 'token', 'number')
if connection[1] ~= ARGV[6] then
  return redis.error_reply('SUPERSEDED another connection of this writer is newer')
end
local number = connection[2] or '0'
local has_ledger

-- a > b for decimal strings without leading zeros.
local function greater(a, b)
  local a_negative, b_negative = a:byte() == 45, b:byte() == 45
  if a_negative ~= b_negative then return b_negative end
  if #a ~= #b then return (#a > #b) ~= a_negative end
  return a ~= b and (a > b) ~= a_negative
end

-- Reads {committed, held, committed, held, …} of accounts; nil for what is not there. Fails before any write when an
-- account is not two numbers, or has no room for another amount.
local function read(accounts)
  if #accounts == 0 then return {} end
  local names = {}
  for i, account in ipairs(accounts) do
    names[2 * i - 1], names[2 * i] = COMMITTED .. account[1], HELD .. account[1]
  end
  local values = redis.call('MGET', unpack(names))
  for i = 1, #names do
    local value = values[i]
    if value then
      if not value:find('^%-?%d+$') then error(names[i] .. ' is not a number', 0) end
      if greater(value, CEILING) then error(names[i] .. ' is full', 0) end
    elseif redis.call('EXISTS', names[i]) == 1 then
      error(names[i] .. ' is not a string', 0) -- MGET answers nil for it
    end
  end
  return values
end

-- Adds to an account {key, …, expires_at, series, owner}, and makes it where it is not there.
local function add(account, expires_at, series, owner, is_there, amount, held)
  local key = account[1]
  redis.call('INCRBY', COMMITTED .. key, amount)
  if held ~= '0' or not is_there then redis.call('INCRBY', HELD .. key, held) end
  if is_there then return end
  if owner ~= '' then redis.pcall('SADD', OWNERS .. series, owner) end -- a list for people: never in money's way
  if expires_at == '' then return end
  redis.call('EXPIREAT', COMMITTED .. key, expires_at)
  redis.call('EXPIREAT', HELD .. key, expires_at)
  if owner ~= '' then redis.call('EXPIREAT', OWNERS .. series, expires_at) end
end

-- Gives back what a record of a hold says. An account that has expired meanwhile stays away; `there` names some that
-- have not.
local function give_back(record, there)
  for amount, key in record:gmatch('(%d+) ([^\n]+)') do
    if there and there[key] or redis.call('EXISTS', COMMITTED .. key, HELD .. key) == 2 then
      redis.call('DECRBY', COMMITTED .. key, amount)
      redis.call('DECRBY', HELD .. key, amount)
    end
  end
end

-- Gives back what is held under this id, if anything is.
local function drop(id, there)
  local record = redis.call('HGET', holds, id)
  if not record then return end
  redis.call('HDEL', holds, id)
  give_back(record, there)
end

-- {1, id, {{key, amount, most, expires_at, series, owner}, …}}: set aside on all accounts or on none.
-- `most` is limit - amount: what may be committed already; empty where the budget does not refuse.
-- Answers 0, or {position, committed, held, …} of the accounts that refuse.
local function hold(id, accounts)
  if redis.call('HEXISTS', holds, id) == 1 then return 0 end
  local values = read(accounts)
  local refusals = {}
  for i, account in ipairs(accounts) do
    local committed = values[2 * i - 1] or '0'
    if account[3] ~= '' and greater(committed, account[3]) then
      refusals[#refusals + 1] = i - 1
      refusals[#refusals + 1] = committed
      refusals[#refusals + 1] = values[2 * i] or '0'
    end
  end
  if #refusals > 0 then return refusals end
  local record = {}
  for i, account in ipairs(accounts) do
    add(account, account[4], account[5], account[6], values[2 * i - 1] and values[2 * i], account[2], account[2])
    record[i] = account[2] .. ' ' .. account[1]
  end
  redis.call('HSET', holds, id, table.concat(record, '\n'))
  return 0
end

-- {2, id}: the request was never sent. Answers 0.
local function release(id)
  drop(id)
  return 0
end

-- {3, {{key}, …}}: answers {committed, held, …}; Python subtracts.
local function check(accounts)
  local values = read(accounts)
  for i = 1, 2 * #accounts do values[i] = values[i] or '0' end
  return values
end

-- Is it this number's turn? Answers nil, 1 for applied before, {number} for too early (GAP).
local function turn(before, this, id)
  if number == before then return nil end
  if greater(before, number) then return { number } end
  drop(id) -- its hold came again together with it, after a lost reply
  return 1
end

local function count(this)
  redis.call('HSET', writer, 'number', this)
  number = this
  return 0
end

-- {4, before, number, {id, {{key, expires_at, series, owner}, …}, amount, day, row, {kind, quantity, …}, line, parked}}
-- Drops the hold, adds to the accounts, the day's sums and the ledger, and counts the number.
-- `parked`: the key where the request was set down (see park). If it is not there any more, somebody else has charged it.
-- Answers 0, 1 or {number} as above.
local function settle(before, this, charge)
  local id, accounts, amount, day, row, quantities, line, parked = unpack(charge)
  local answer = turn(before, this, id)
  if answer then return answer end
  local record
  if parked ~= '' then
    record = redis.call('HGET', parked, id)
    if not record then return count(this) end
  end
  local values = read(accounts)
  local sums = SUMS .. day
  local fields = {}
  for i = 1, #quantities, 2 do fields[#fields + 1] = row .. quantities[i] end
  for _, value in ipairs(redis.call('HMGET', sums, unpack(fields))) do
    if value and (not value:find('^%-?%d+$') or greater(value, CEILING)) then error(sums .. ' has a sum that is full', 0) end
  end
  if not has_ledger then has_ledger = redis.call('XLEN', ledger) end -- fails where the key is no stream
  local there = {}
  for i, account in ipairs(accounts) do there[account[1]] = values[2 * i - 1] and values[2 * i] end
  drop(id, there)
  if record then
    redis.call('HDEL', parked, id)
    give_back(record:match('\n.*') or '', there)
  end
  for _, account in ipairs(accounts) do
    add(account, account[2], account[3], account[4], there[account[1]], amount, '0')
  end
  for i, field in ipairs(fields) do redis.call('HINCRBY', sums, field, quantities[2 * i]) end
  redis.call('XADD', ledger, '*', 'e', line)
  return count(this)
end

-- {6, before, number, {id, key, record}}: the upstream works on this request in the background. What it is stands in
-- `record`, one line of text; it is set down under `key` together with its hold, which goes on: whichever writer hears of
-- the end charges it. Answers as settle.
local function park(before, this, request)
  local id, key, record = unpack(request)
  local answer = turn(before, this, id)
  if answer then return answer end
  local held = redis.call('HGET', holds, id) or ''
  redis.call('HSET', key, id, record .. '\n' .. held)
  redis.call('HDEL', holds, id)
  return count(this)
end

-- {5, before, number, {id, …}}: this charge was set aside for good. Only its hold goes, and its number counts.
local function skip(before, this, charge)
  local answer = turn(before, this, charge[1])
  if answer then return answer end
  pcall(drop, charge[1]) -- whatever is wrong with it must not stop the next charge
  return count(this)
end

local apply = { hold, release, check, settle, skip, park }
local answers = {}
local counted = number
for i, operation in ipairs(cmsgpack.unpack(ARGV[7])) do
  local done, answer = pcall(apply[operation[1]], unpack(operation, 2))
  if not done then answer = tostring(type(answer) == 'table' and answer.err or answer) end
  answers[i] = answer
end
if number ~= counted then redis.call('EXPIRE', writer, ARGV[5]) end
return answers
