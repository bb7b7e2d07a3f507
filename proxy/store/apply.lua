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

-- What a batch changes often (accounts, sums) is read once, kept as Lua numbers as long as they are small enough to be
-- exact, and written at the end by `flush`, which cannot fail: what is kept was read, and has room.
local SMALL, SMALL_CHANGE = 15, 13 -- characters; 64 operations change an account twice each at most
local kept_accounts, kept_sums = {}, {}

local function text(value) return string.format('%.0f', value) end

local function checked_number(name, value)
  if not value:find('^%-?%d+$') then error(name .. ' is not a number', 0) end
  if greater(value, CEILING) then error(name .. ' is full', 0) end
  return value
end

local function flush_account(account)
  if account.more ~= 0 then redis.call('INCRBY', COMMITTED .. account.key, text(account.more)) end
  if account.more_held ~= 0 then redis.call('INCRBY', HELD .. account.key, text(account.more_held)) end
  kept_accounts[account.key] = nil
end

local function flush()
  for _, account in pairs(kept_accounts) do flush_account(account) end
  for name, sums in pairs(kept_sums) do
    for field, more in pairs(sums) do
      if more ~= 0 then redis.call('HINCRBY', name, field, text(more)) end
    end
  end
  kept_sums = {}
end

-- An account as it is now: {is_there, is_kept, committed, held}; the last two are numbers where it is kept, else text.
-- Fails before any write when they are not two numbers, or have no room for another amount.
local function read(key)
  if kept_accounts[key] then return kept_accounts[key] end
  local names = { COMMITTED .. key, HELD .. key }
  local values = redis.call('MGET', names[1], names[2])
  for i = 1, 2 do
    if values[i] then
      checked_number(names[i], values[i])
    elseif redis.call('EXISTS', names[i]) == 1 then
      error(names[i] .. ' is not a string', 0) -- MGET answers nil for it
    end
  end
  local committed, held = values[1], values[2]
  if not (committed and held) then return { committed = committed or '0', held = held or '0' } end
  if #committed > SMALL or #held > SMALL then return { is_there = true, committed = committed, held = held } end
  local account = { key = key, is_there = true, is_kept = true, more = 0, more_held = 0 }
  account.committed, account.held = tonumber(committed), tonumber(held)
  kept_accounts[key] = account
  return account
end

local function texts(account)
  if account.is_kept then return text(account.committed), text(account.held) end
  return account.committed, account.held
end

-- Whether more is committed than `most`, a text.
local function exceeds(account, most)
  if account.is_kept and #most <= SMALL then return account.committed > tonumber(most) end
  return greater((texts(account)), most)
end

-- Adds texts to an account that is there.
local function move(key, account, amount, held)
  if account.is_kept then
    if #amount <= SMALL_CHANGE and #held <= SMALL_CHANGE then
      account.committed, account.more = account.committed + amount, account.more + amount
      if held ~= '0' then account.held, account.more_held = account.held + held, account.more_held + held end
      return
    end
    flush_account(account)
  end
  redis.call('INCRBY', COMMITTED .. key, amount)
  redis.call('INCRBY', HELD .. key, held)
end

-- Adds to an account, and makes it where it is not there.
local function add(key, expires_at, series, owner, amount, held)
  local account = read(key)
  if account.is_there then return move(key, account, amount, held) end
  redis.call('INCRBY', COMMITTED .. key, amount)
  redis.call('INCRBY', HELD .. key, held)
  if owner ~= '' then redis.pcall('SADD', OWNERS .. series, owner) end -- a list for people: never in money's way
  if expires_at == '' then return end
  redis.call('EXPIREAT', COMMITTED .. key, expires_at)
  redis.call('EXPIREAT', HELD .. key, expires_at)
  if owner ~= '' then redis.call('EXPIREAT', OWNERS .. series, expires_at) end
end

-- Gives back what a record of a hold says: lines of `nanos account-key`, an empty line, and an Opened as JSON. An
-- account that has expired meanwhile stays away.
local function give_back(record)
  for amount, key in record:sub(1, (record:find('\n\n', 1, true))):gmatch('(%d+) ([^\n]+)') do
    local account = read(key)
    if account.is_there and amount ~= '0' then move(key, account, '-' .. amount, '-' .. amount) end -- rule 8
  end
end

-- Gives back what is held under this id, if anything is.
local function drop(id)
  local record = redis.call('HGET', holds, id)
  if not record then return end
  redis.call('HDEL', holds, id)
  give_back(record)
end

-- Checks all that a charge will change.
local function check_charge(charge)
  local _, accounts, _, day, row, quantities = unpack(charge)
  for _, account in ipairs(accounts) do read(account[1]) end
  local name = SUMS .. day
  local sums = kept_sums[name] or {}
  local fields = {}
  for i = 1, #quantities, 2 do
    local field = row .. quantities[i]
    if not sums[field] then fields[#fields + 1] = field end
  end
  if #fields > 0 then
    local values = redis.call('HMGET', name, unpack(fields))
    for i, field in ipairs(fields) do
      local value = checked_number(name, values[i] or '0')
      if #value <= SMALL then sums[field] = 0 end
    end
    kept_sums[name] = sums
  end
  if not has_ledger then has_ledger = redis.call('XLEN', ledger) end -- fails where the key is no stream
end

-- Writes a charge that was checked. With `is_reversal`, accounts that have expired meanwhile stay away.
local function write(charge, line, is_reversal)
  local _, accounts, amount, day, row, quantities = unpack(charge)
  for _, account in ipairs(accounts) do
    local key = account[1]
    if not is_reversal or read(key).is_there then
      add(key, account[2], account[3], account[4], amount, '0')
    end
  end
  local name = SUMS .. day
  for i = 1, #quantities, 2 do
    local field, quantity = row .. quantities[i], quantities[i + 1]
    local more = kept_sums[name][field]
    if more and #quantity <= SMALL_CHANGE then
      kept_sums[name][field] = more + quantity
    else
      redis.call('HINCRBY', name, field, quantity)
    end
  end
  redis.call('XADD', ledger, '*', 'e', line)
end

-- Takes what these accounts shall hold out of what was set aside on the same ones ahead, under the id `advance`: what
-- they have committed stays as it is (rule 8). Returns whether it has so much.
local function take(advance, accounts)
  local record = redis.call('HGET', holds, advance)
  if not record then return false end -- a store that was away has lost it
  local left = {}
  for amount, key in record:gmatch('(%d+) ([^\n]+)') do
    local account = accounts[#left + 1]
    if not account or account[1] ~= key or #amount > SMALL or #account[2] > SMALL then return false end
    if amount - account[2] < 0 then return false end
    left[#left + 1] = text(amount - account[2]) .. ' ' .. key
  end
  if #left ~= #accounts then return false end
  redis.call('HSET', holds, advance, table.concat(left, '\n') .. NOTHING_HELD)
  return true
end

-- {1, id, {{key, amount, most, expires_at, series, owner}, …}, opened, advance}: set aside on all accounts or on none.
-- `most` is limit - amount: what may be committed already; empty where the budget does not refuse. `advance`: see take;
-- empty for most. What is set aside ahead is such a hold too, of nothing (`opened` is empty).
-- Answers 0, or {position, committed, held, …} of the accounts that refuse.
local function hold(id, accounts, opened, advance)
  if redis.call('HEXISTS', holds, id) == 1 then return 0 end -- rule 6: idempotent by entry id
  if has_presumed and redis.call('HEXISTS', presumed, id) == 1 then return 0 end -- rule 5: never revived
  local is_taken = advance ~= '' and take(advance, accounts)
  local refusals = {}
  for i, account in ipairs(accounts) do
    local now = read(account[1])
    if account[3] ~= '' and exceeds(now, account[3]) then
      refusals[#refusals + 1] = i - 1
      refusals[#refusals + 1], refusals[#refusals + 2] = texts(now)
    end
  end
  if #refusals > 0 then return refusals end
  local record = {}
  for i, account in ipairs(accounts) do
    if not is_taken then add(account[1], account[4], account[5], account[6], account[2], account[2]) end
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
  check_charge(back)
  write(back, back[7], true)
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
  local values = {}
  for i, account in ipairs(accounts) do
    values[2 * i - 1], values[2 * i] = texts(read(account[1]))
  end
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
  check_charge(charge)
  local back = reversal and cmsgpack.unpack(reversal)
  if back then check_charge(back) end
  -- rule 4: it finds a hold, a presumed entry or neither, and is charged in any case
  drop(id)
  if record then give_back(record) end
  if parked ~= '' then
    redis.call('HDEL', parked, id)
    redis.call('ZREM', due, id .. ' ' .. parked)
  end
  if back then
    write(back, back[7], true)
    redis.call('HDEL', presumed, id)
    write(charge, (charge[7]:gsub('"line":"entry"', '"line":"correction"', 1)))
  else
    write(charge, charge[7])
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
  check_charge(charge)
  drop(id)
  write(charge, charge[7])
  redis.call('HSET', presumed, id, cmsgpack.pack(reversal)) -- rule 5
  redis.call('EXPIRE', presumed, KEPT)
  has_presumed = true
  return 0
end

-- {10, key, forget_at, charge, reversal}: nobody asked for the end of a parked request in time. Answers as presume.
local function presume_parked(key, forget_at, charge, reversal)
  local id = charge[1]
  local value = redis.call('HGET', key, id)
  local record, held = (value or '\n!'):match('^(.-)\n(.*)$')
  if held:byte() == 33 then return 1 end
  check_charge(charge)
  give_back(held)
  write(charge, charge[7])
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
local counted = number
local function finish()
  flush()
  if number ~= counted then redis.call('HSET', writer, 'number', number) end
end

local answers = {}
for i, operation in ipairs(cmsgpack.unpack(ARGV[7])) do
  local done, answer = pcall(apply[operation[1]], unpack(operation, 2))
  if not done then
    answer = tostring(type(answer) == 'table' and answer.err or answer)
    -- A cluster is moving the slot, and a key is not here (any more, or not made yet). Each operation reads an account
    -- before it writes, so this one has written nothing; the ones before it know that they came.
    if answer:find('non local key', 1, true) then
      finish()
      return redis.error_reply('TRYAGAIN ' .. answer)
    end
  end
  answers[i] = answer
end
finish()
return answers
