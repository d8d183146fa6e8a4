"""What Redis does by itself, in one step each: the index of a shard, and the turns of leases.

Every script gets the keys of one shard, so it runs in a cluster as well. Whatever it finds in them may have been left
by others: what is of another type is not there, and an index of which a part is gone (Redis evicts keys of its own
accord when it is full) is begun anew. Entries that the index does not know are taken into it when they are next read.

An index is a hash with `nbytes`, `clock` and, by key, "nbytes hits used seconds pinned"; a sorted set of keys by
priority (GreedyDual-Size-Frequency, see `_evict`); and a sorted set of keys by when they expire.
"""

from __future__ import annotations

from hashlib import sha1

INDEX = """
local facts, order, expiring, entry = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local op, id = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local function kind(key) return redis.call('TYPE', key).ok end
if kind(facts) ~= 'hash' or kind(order) ~= 'zset' then redis.call('DEL', facts, order, expiring) end
if kind(expiring) ~= 'zset' then redis.call('DEL', expiring) end

local function number(text) return tonumber(text or '') or 0 end
local function field(name) return number(redis.call('HGET', facts, name)) end
local function add(nbytes) redis.call('HSET', facts, 'nbytes', math.max(field('nbytes') + nbytes, 0)) end

local function known(key)
  local text = redis.call('HGET', facts, key)
  if not text then return nil end
  local nbytes, hits, used, seconds, pinned = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {nbytes = number(nbytes), hits = number(hits), used = number(used), seconds = number(seconds),
          pinned = number(pinned)}
end

local function note(key, it)
  redis.call('HSET', facts, key,
    string.format('%.0f %.0f %.6f %.9g %d', it.nbytes, it.hits, it.used, it.seconds, it.pinned))
  local priority = field('clock') + (it.hits + 1) * math.max(it.seconds, 1e-9) / math.max(it.nbytes, 1)
  if it.pinned ~= 0 or priority ~= priority then priority = '+inf' end
  redis.call('ZADD', order, priority, key)
end

local function forget(key)
  local it = known(key)
  redis.call('ZREM', expiring, key)
  redis.call('ZREM', order, key)
  if it then
    redis.call('HDEL', facts, key)
    add(-it.nbytes)
  end
  return it
end

local function track(seconds, pinned)
  local nbytes = redis.call('STRLEN', entry)
  note(id, {nbytes = nbytes, hits = 0, used = now, seconds = seconds, pinned = pinned})
  add(nbytes)
  local left = redis.call('PTTL', entry)
  if left >= 0 then redis.call('ZADD', expiring, now + left / 1000, id) end
end

local function advance(clock) if clock > field('clock') then redis.call('HSET', facts, 'clock', clock) end end

local function sweep()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', now, 'LIMIT', 0, 100)) do forget(key) end
end

local function take_out()
  forget(id)
  return redis.call('UNLINK', entry)
end

if op == 'touch' then
  if redis.call('EXISTS', entry) == 0 then forget(id) return 0 end
  local it = known(id)
  if not it then return 2 end
  it.hits, it.used = it.hits + 1, now
  note(id, it)
  return 1
elseif op == 'put' then
  local new, seconds, pinned, px, clock = KEYS[5], number(ARGV[3]), number(ARGV[4]), number(ARGV[5]), number(ARGV[6])
  if redis.call('EXISTS', new) == 0 then return 0 end
  sweep()
  forget(id)
  redis.call('RENAME', new, entry)
  if px > 0 then redis.call('PEXPIRE', entry, px) else redis.call('PERSIST', entry) end
  track(seconds, pinned)
  advance(clock)
  return 1
elseif op == 'adopt' then
  if kind(entry) == 'string' and not known(id) then track(number(ARGV[3]), number(ARGV[4])) end
  return 1
elseif op == 'delete' then
  return take_out()
elseif op == 'discard' then
  if kind(entry) ~= 'string' then return take_out() end
  if redis.call('GETRANGE', entry, 0, #ARGV[3] - 1) == ARGV[3] then return take_out() end
  return 0
elseif op == 'pin' then
  if kind(entry) ~= 'string' then return 0 end
  redis.call('SETRANGE', entry, ARGV[4], string.char(number(ARGV[3])))
  local it = known(id)
  if it then
    it.pinned = number(ARGV[3])
    note(id, it)
  else
    track(0, number(ARGV[3]))
  end
  return 1
elseif op == 'evict' then
  local it = known(id)
  if not it or it.pinned ~= 0 then return 0 end
  advance(number(ARGV[3]))
  take_out()
  return it.nbytes
elseif op == 'least' then
  sweep()
  return redis.call('ZRANGEBYSCORE', order, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
elseif op == 'total' then
  sweep()
  local it = id ~= '' and known(id) or nil
  return {tostring(field('nbytes')), tostring(field('clock')), tostring(it and it.nbytes or 0)}
end
"""

TURNS = """
local key, op, holder = KEYS[1], ARGV[1], ARGV[2]
local kind = redis.call('TYPE', key).ok
local has = kind == 'string' and redis.call('GET', key) or ''
if op == 'take' then
  if kind ~= 'none' and kind ~= 'string' then redis.call('DEL', key) kind = 'none' end
  if kind == 'none' or has == ARGV[4] or redis.call('PTTL', key) == -1 then
    redis.call('SET', key, holder, 'PX', ARGV[3])
    return 1
  end
  return has
end
if has ~= holder then return 0 end
if op == 'renew' then return redis.call('PEXPIRE', key, ARGV[3]) end
return redis.call('DEL', key)
"""

# By the digest by which a server that has seen a script knows it.
SOURCES = {sha1(source.encode(), usedforsecurity=False).hexdigest(): source for source in (INDEX, TURNS)}
INDEX_SHA, TURNS_SHA = SOURCES
