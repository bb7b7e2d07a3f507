#!lua
-- Applies a writer's operations in order. Each is idempotent, because after a lost reply the same ones come again.
-- "rule n" marks where the protocol's rules (see operations.py) are held. (Over 300 lines: what moves money stands once.)
--
-- KEYS  1 the writer's hash, 2 its holds, 3 its presumed entries, 4 the ledger's stream, 5 the stream of what was set
--       aside, 6 when parked requests are due, 7 all writers (keys of accounts, sums and owners are made from the prefixes below: all
--       have one hash tag)
-- ARGV  1-4 prefixes of committed, held, owners and sums, 5 seconds that a writer and its presumed entries are kept,
--       6 the connection's token, 7 the operations as MessagePack
-- Returns one answer an operation; see operations.py, which knows the same shapes.
--
-- Amounts are decimal strings throughout: a Lua number is exact only to 2^53. They change by INCRBY and HINCRBY
-- (int64) and are compared as text. An operation checks all it can before its first write; what it answers as text
-- is an error that repeating will not mend.
--
-- A charge is {id, {{key, expires_at, series, owner}, …}, amount, day, row, {kind, quantity, …}, line, …}: what is added
-- to accounts, to the fields `row .. kind` of the day's sums, and to the ledger.

local writer, holds, presumed, ledger, aside, due, writers = unpack(KEYS)
local COMMITTED, HELD, OWNERS, SUMS, KEPT = unpack(ARGV, 1, 5)
local CEILING = '9200000000000000000' -- nanos; one more amount of at most 10^16 still fits into an int64
local NOTHING_HELD = '\n\n'

local connection = redis.call('HMGET', writer, 'token', 'number')
if connection[1] ~= ARGV[6] then -- rule 6
  return redis.error_reply('SUPERSEDED another connection of this writer is newer')
end
local number = connection[2] or '0'
local has_presumed = redis.call('EXISTS', presumed) == 1
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

-- Gives back what a record of a hold says: lines of `nanos account-key`, an empty line, and an Opened as JSON. An
-- account that has expired meanwhile stays away; `there` names some that have not.
local function give_back(record, there)
  for amount, key in record:sub(1, (record:find('\n\n', 1, true))):gmatch('(%d+) ([^\n]+)') do
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

-- Checks all that a charge will change. Returns which of its accounts are there.
local function checked(charge)
  local _, accounts, _, day, row, quantities = unpack(charge)
  local values = read(accounts)
  local fields = {}
  for i = 1, #quantities, 2 do fields[#fields + 1] = row .. quantities[i] end
  for _, value in ipairs(redis.call('HMGET', SUMS .. day, unpack(fields))) do
    if value and (not value:find('^%-?%d+$') or greater(value, CEILING)) then
      error(SUMS .. day .. ' has a sum that is full', 0)
    end
  end
  if not has_ledger then has_ledger = redis.call('XLEN', ledger) end -- fails where the key is no stream
  local there = {}
  for i, account in ipairs(accounts) do there[account[1]] = values[2 * i - 1] and values[2 * i] end
  return there
end

-- Writes a charge that was checked. With `is_reversal`, accounts that have expired meanwhile stay away.
local function write(charge, there, line, is_reversal)
  local _, accounts, amount, day, row, quantities = unpack(charge)
  for _, account in ipairs(accounts) do
    local is_there = there[account[1]]
    if is_there or not is_reversal then
      add(account, account[2], account[3], account[4], is_there, amount, '0')
    end
  end
  for i = 1, #quantities, 2 do redis.call('HINCRBY', SUMS .. day, row .. quantities[i], quantities[i + 1]) end
  redis.call('XADD', ledger, '*', 'e', line)
end

-- {1, id, {{key, amount, most, expires_at, series, owner}, …}, opened}: set aside on all accounts or on none.
-- `most` is limit - amount: what may be committed already; empty where the budget does not refuse.
-- Answers 0, or {position, committed, held, …} of the accounts that refuse.
local function hold(id, accounts, opened)
  if redis.call('HEXISTS', holds, id) == 1 then return 0 end -- rule 6: idempotent by entry id
  if has_presumed and redis.call('HEXISTS', presumed, id) == 1 then return 0 end -- rule 5: never revived
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
  redis.call('HSET', holds, id, table.concat(record, '\n') .. NOTHING_HELD .. opened)
  return 0
end

-- {8, id}: what was presumed of this request was never sent. Answers 0.
local function reverse(id)
  local reversal = has_presumed and redis.call('HGET', presumed, id)
  if not reversal then return 0 end
  local back = cmsgpack.unpack(reversal)
  write(back, checked(back), back[7], true)
  redis.call('HDEL', presumed, id)
  return 0
end

-- {2, id}: the request was never sent, whatever was presumed of it. Answers 0.
local function release(id)
  drop(id)
  return reverse(id)
end

-- {3, {{key}, …}}: answers {committed, held, …}; Python subtracts.
local function check(accounts)
  local values = read(accounts)
  for i = 1, 2 * #accounts do values[i] = values[i] or '0' end
  return values
end

-- rule 3: is it this number's turn? Answers nil, 1 for applied before, {number} for too early (GAP).
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

-- {4, before, number, {charge…, parked}}
-- Drops the hold, writes the charge, and counts the number.
-- `parked`: the key where the request was set down (see park). If it is not there any more, somebody else has charged it.
-- Answers 0, 2 for charged by somebody else, 1 or {number} as above.
local function settle(before, this, charge)
  local id, parked = charge[1], charge[8]
  local answer = turn(before, this, id)
  if answer then return answer end
  local record, reversal
  if parked ~= '' then
    record = redis.call('HGET', parked, id)
    if not record then
      count(this)
      return 2
    end
    record = record:match('\n(.*)')
    if record:byte() == 33 then record, reversal = nil, record:sub(2) end -- `!`: it was presumed meanwhile
  elseif has_presumed then
    reversal = redis.call('HGET', presumed, id)
  end
  local there = checked(charge)
  local back = reversal and cmsgpack.unpack(reversal)
  local still_there = back and checked(back)
  -- rule 4: it finds a hold, a presumed entry or neither, and is charged in any case
  drop(id, there)
  if record then give_back(record, there) end
  if parked ~= '' then
    redis.call('HDEL', parked, id)
    redis.call('ZREM', due, id .. ' ' .. parked)
  end
  if back then
    write(back, still_there, back[7], true)
    redis.call('HDEL', presumed, id)
    write(charge, there, (charge[7]:gsub('"line":"entry"', '"line":"correction"', 1)))
  else
    write(charge, there, charge[7])
  end
  return count(this)
end

-- {6, before, number, {id, key, record, opened, due_at}}: the upstream works on this request in the background. What it
-- is stands in `record`, one line of text; it is set down under `key` together with its hold, which goes on: whichever
-- writer hears of the end charges it. A presumed entry goes with it as `!` and its reversal. Answers as settle.
local function park(before, this, request)
  local id, key, record, opened, due_at = unpack(request)
  local answer = turn(before, this, id)
  if answer then return answer end
  local held = redis.call('HGET', holds, id) or NOTHING_HELD .. opened
  local reversal = has_presumed and redis.call('HGET', presumed, id)
  if reversal then held, due_at = '!' .. reversal, string.format('%.0f', due_at + KEPT) end
  redis.call('HSET', key, id, record .. '\n' .. held)
  redis.call('HDEL', holds, id)
  redis.call('HDEL', presumed, id)
  redis.call('ZADD', due, due_at, id .. ' ' .. key)
  return count(this)
end

-- {5, before, number, {id, line, why}}: this record was set aside for good. Its hold goes, and its number counts.
local function skip(before, this, record)
  local answer = turn(before, this, record[1])
  if answer then return answer end
  pcall(drop, record[1]) -- whatever is wrong with it must not stop the next one
  if record[2] ~= '' then redis.pcall('XADD', aside, '*', 'e', record[2], 'why', record[3]) end
  return count(this)
end

-- {7}: the writer lives.
local function beat()
  redis.call('HINCRBY', writer, 'beat', 1)
  redis.call('EXPIRE', writer, KEPT)
  return 0
end

-- {9, charge, reversal}: a sweeper has taken the writer's place: what it holds becomes a presumed entry, once.
-- `reversal` is the charge that takes it back, kept as MessagePack. Answers 0, or 1 where nothing is held.
local function presume(charge, reversal)
  local id = charge[1]
  if redis.call('HEXISTS', holds, id) == 0 then return 1 end
  local there = checked(charge)
  drop(id, there)
  write(charge, there, charge[7])
  redis.call('HSET', presumed, id, cmsgpack.pack(reversal)) -- rule 5
  redis.call('EXPIRE', presumed, KEPT)
  return 0
end

-- {10, key, forget_at, charge, reversal}: nobody asked for the end of a parked request in time. Answers as presume.
local function presume_parked(key, forget_at, charge, reversal)
  local id = charge[1]
  local value = redis.call('HGET', key, id)
  local record, held = (value or '\n!'):match('^(.-)\n(.*)$')
  if held:byte() == 33 then return 1 end
  local there = checked(charge)
  give_back(held, there)
  write(charge, there, charge[7])
  redis.call('HSET', key, id, record .. '\n!' .. cmsgpack.pack(reversal))
  redis.call('ZADD', due, forget_at, id .. ' ' .. key)
  return 0
end

-- {11, id, key}: what was presumed of a parked request is not corrected any more.
local function forget_parked(id, key)
  local value = redis.call('HGET', key, id)
  if value and not value:find('\n!', 1, true) then return 1 end
  redis.call('HDEL', key, id)
  redis.call('ZREM', due, id .. ' ' .. key)
  return 0
end

-- {12, name}: this writer was swept. Its number stays: it may come again, and must not apply anything twice.
local function retire(name)
  if redis.call('EXISTS', holds) == 1 then return 1 end
  redis.call('SREM', writers, name)
  redis.call('HDEL', writer, 'token')
  if number == '0' and redis.call('EXISTS', presumed) == 0 then redis.call('DEL', writer) end
  return 0
end

local apply = {
  hold, release, check, settle, skip, park, beat, reverse, presume, presume_parked, forget_parked, retire,
}
local answers = {}
for i, operation in ipairs(cmsgpack.unpack(ARGV[7])) do
  local done, answer = pcall(apply[operation[1]], unpack(operation, 2))
  if not done then
    answer = tostring(type(answer) == 'table' and answer.err or answer)
    -- A cluster is moving the slot, and a key is not here (any more, or not made yet). Each operation reads an account
    -- before it writes, so this one has written nothing; the ones before it know that they came.
    if answer:find('non local key', 1, true) then return redis.error_reply('TRYAGAIN ' .. answer) end
  end
  answers[i] = answer
end
return answers
