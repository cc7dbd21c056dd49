"""The script's language: what stands in state.lua's ARGV and replies, in milliseconds, and the order of its KEYS."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from indexing.ratelimit import limits, protocol, route_limits

encode = msgspec.json.encode
_GRANTED, _RELEARN = 1, 2


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def rules(of: limits.Rules) -> str:
    """Return the rules as the head of the script: one line of Lua."""
    numbers = {
        "capacity": of.global_budget.capacity,
        "window": _ms(of.global_budget.window),
        "user_capacity": of.user_budget.capacity,
        "user_window": _ms(of.user_budget.window),
        "inflight": _ms(of.inflight),
        "hold": _ms(of.hold),
        "reserve": of.reserve,
        "global_credit": of.global_credit,
        "user_credit": of.user_credit,
        "margin": of.margin * 1000,
        "invalid_minutes": math.ceil(limits.INVALID.window / 60),
        "stop_bulk": of.stop_bulk,
        "stop_all": of.stop_all,
        "grace": _ms(of.grace),
        "ahead": _ms(of.ahead),
        "probe": _ms(of.probe),
        "unseen": _ms(of.unseen),
        "unproven": _ms(of.unproven),
        "burst": of.burst,
        "ramp": _ms(of.ramp),
        "forget": _ms(of.forget),
        "agree": of.agree,
        "stretch": _ms(of.stretch),
        "enough": of.enough,
        "longest": _ms(of.longest),
    }
    fields = ", ".join(f"{name} = {number!r}" for name, number in numbers.items())
    shares = ", ".join(repr(share) for share in of.shares)
    return f"local rules = {{{fields}, shares = {{{shares}}}}}"


def keys(
    names: limits.Keys,
    of: limits.Rules,
    settlements: Sequence[protocol.Settlement],
    asks: Sequence[protocol.Ask],
) -> list[str]:
    """Return all keys of an exchange, in the script's order."""
    found = names.shared(of.egress)
    for one in settlements:
        found += _keys_of_settlement(names, one)
    for ask_ in asks:
        user, route = names.user(ask_.charge.user), names.route(ask_.charge, ask_.limit)
        found += [user, names.line(user), route, names.line(route), names.part(ask_.charge, ask_.limit)]
    return found


def _keys_of_settlement(names: limits.Keys, one: protocol.Settlement) -> list[str]:
    charge, limit = one.permit.charge, one.permit.limit
    route = names.route(charge, limit)
    seen = one.outcome.headers if one.outcome else None
    if seen is None:
        return [names.user(charge.user), route, route, names.part(charge, limit)]
    whole, part = names.bucket(charge, seen.bucket, None), names.bucket(charge, seen.bucket, charge.major)
    return [names.user(charge.user), route, whole, part]


def ask(of: protocol.Ask) -> dict[str, Any]:
    """Return an ask as the script reads it."""
    charge, limit = of.charge, of.limit
    return {
        "id": of.id,
        "lane": limits.LANES.index(charge.lane) + 1,
        "waiter": of.waiter,
        "named": charge.waiter != "",
        "user": "" if charge.user is None else str(charge.user),
        "patience": _ms(of.patience),
        "field": charge.field,
        "known": limit.value,
        "capacity": limit.capacity,
        "window": _ms(limit.window),
        "label": limits.label(charge),
        "unproven": of.unproven,
    }


def settlement(of: protocol.Settlement, now: float) -> dict[str, Any]:
    """Return a settlement as the script reads it; *now* is of the clock that `read_at` was taken from."""
    permit, outcome = of.permit, of.outcome
    said: dict[str, Any] = {
        "id": permit.id,
        "lane": limits.LANES.index(permit.charge.lane) + 1,
        "known": permit.limit.value,
    }
    if outcome is None:
        return said | {"unsent": True}
    said |= {
        # Rounded down: a permit may be free late, never early.
        "age": max(0, math.floor((now - of.read_at) * 1000)),
        "rtt": math.floor(outcome.round_trip * 1000),
        "owner": permit.charge.owner,
        "field": permit.charge.field,
        "taken": permit.moment,
        "window": _ms(permit.limit.window),
        "held": permit.held,
        "proper": outcome.proper,
        "invalid": outcome.invalid,
        "major": "" if permit.charge.major is None else str(permit.charge.major),
    }
    return said | _optional(permit, outcome)


def _optional(permit: limits.Permit, outcome: protocol.Outcome) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if outcome.excess is not None:
        said["excess"] = outcome.excess * 1000
    if outcome.scope is not None:
        said |= {"scope": outcome.scope, "pause": _ms(outcome.pause)}
        said["unsplit"] = outcome.scope == "route" and permit.limit.split
    if outcome.headers is not None:
        seen = outcome.headers
        said |= {"bucket": seen.bucket, "limit": seen.limit, "remaining": seen.remaining}
        said["reset"] = _ms(seen.reset_after)
    return said


def settled(reply: list[Any]) -> protocol.Settled:
    """Read the reply to a settlement."""
    strangers, value, credit_ms = reply
    return protocol.Settled(strangers, route_limits.RouteLimit.parse(_text(value)), credit_ms / 1000)


def verdict(reply: list[Any], of: protocol.Ask, by: limits.Rules, now: int) -> protocol.Verdict:
    """Read the reply to an ask; *now* is the moment of the exchange."""
    if reply[0] == _RELEARN:
        return protocol.Relearn(route_limits.RouteLimit.parse(_text(reply[1])))
    if reply[0] != _GRANTED:
        return protocol.Wait(reply[1] / 1000, _text(reply[2]), _text(reply[3]))
    _, delay_ms, used, capacity, user_used, route_used = reply
    left = {"global": share(used, capacity)}
    if of.charge.user is not None:
        left["user"] = share(user_used, by.user_budget.capacity)
    if of.limit.known and of.limit.capacity:
        left["route"] = share(route_used, of.limit.capacity)
    return protocol.Granted(delay_ms / 1000, now + delay_ms, route_used, left)


def share(used: int, capacity: int) -> float:
    """Return the share of *capacity* that *used* leaves."""
    return max(0.0, 1 - used / capacity)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
