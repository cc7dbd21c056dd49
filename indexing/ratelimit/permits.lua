-- A budget's ledger: one entry for each permit, scored with the moment at which it is free again. While its call is on
-- the way, that moment lies `inflight` (longest call and fence) plus the window ahead; the settlement brings it forward.
-- Two entries are no permits: '!' (paused by Discord) and '!shared' (paused, but not because of us).

-- Drops what is free again. Returns the permits held, the moment until which the budget is paused (0: it is not), why.
local function held(key)
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  local used = call('ZCARD', key)
  local pause, why = 0, ''
  if used > 0 then
    for _, name in ipairs({'!', '!shared'}) do
      local moment = tonumber(call('ZSCORE', key, name) or nil)
      if moment then
        used = used - 1
        if moment > pause then pause, why = moment, name == '!' and 'pause' or 'shared' end
      end
    end
  end
  return used, pause, why
end

-- Returns the moment at which the n-th of the held permits is free, and whether that is sure. One whose call is still
-- on the way is expected after a usual round trip; beyond the last one, whole windows follow.
local function release(key, n, used, window)
  if used == 0 then return now + math.max(window, rules.probe), false end
  local rounds = math.floor((n - 1) / used)
  local index = (n - 1) % used
  local moment = tonumber(call('ZRANGE', key, index, index, 'WITHSCORES')[2])
  local sure = rounds == 0 and moment <= now + window
  if moment > now + window then
    moment = math.max(moment - rules.inflight + state.rtt, now + math.max(window, rules.probe))
  end
  return moment + rounds * window, sure
end

local function pause(key, name, moment)
  call('ZADD', key, 'GT', moment, name)
  keep(key, moment)
end
