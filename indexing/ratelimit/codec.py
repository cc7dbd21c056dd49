"""
Encodes the Redis script's parameters, keys and input, and decodes its replies.

The Lua parts use the names of this module; state.lua lists the keys. Times are milliseconds.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from indexing.ratelimit import limits, protocol, route_limits

encode_json = msgspec.json.encode
_GRANTED, _LIMIT_CHANGED = 1, 2


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def script_parameters(parameters: limits.LimiterParameters) -> str:
    """Return the head of the script: one line of Lua that declares `params`."""
    numbers = {
        "global_capacity": parameters.global_budget.capacity,
        "global_window": _ms(parameters.global_budget.window),
        "user_capacity": parameters.user_budget.capacity,
        "user_window": _ms(parameters.user_budget.window),
        "max_in_flight": _ms(parameters.max_in_flight),
        "warmup_hold": _ms(parameters.warmup_hold),
        "longest_window": _ms(parameters.longest_window),
        "global_credit": parameters.global_credit,
        "user_credit": parameters.user_credit,
        "invalid_minutes": math.ceil(limits.INVALID_REQUEST_LIMIT.window / 60),
        "stop_bulk": parameters.stop_bulk,
        "stop_all": parameters.stop_all,
        "stop_caller": parameters.stop_caller,
        "probe_retry": _ms(parameters.probe_retry),
        "probe_window": _ms(parameters.probe_window),
        "unproven_max_wait": _ms(parameters.unproven_max_wait),
        "bulk_burst": parameters.bulk_burst,
        "ramp": _ms(parameters.ramp),
        "foreign_decay": _ms(parameters.foreign_decay),
        "raise_after": parameters.raise_after,
        "round_trip_period": _ms(parameters.round_trip_period),
        "round_trip_samples": parameters.round_trip_samples,
        "max_window": _ms(parameters.max_window),
        "first_pause": _ms(parameters.first_pause),
        "max_pause": _ms(parameters.max_pause),
        "repeat_memory": _ms(parameters.repeat_memory),
        "strict_memory": _ms(parameters.strict_memory),
        "strict_window": _ms(parameters.strict_window),
    }
    fields = ", ".join(f"{name} = {number!r}" for name, number in numbers.items())
    shares = ", ".join(repr(share) for share in parameters.lane_shares)
    return f"local params = {{{fields}, lane_shares = {{{shares}}}}}"


def script_keys(
    names: limits.Keys,
    egress: str,
    settlements: Sequence[protocol.Settlement],
    requests: Sequence[protocol.PermitRequest],
) -> list[str]:
    """Return all keys of an exchange, in the script's order."""
    keys = names.common(egress)
    for settlement in settlements:
        keys += _settlement_keys(names, settlement)
    for request in requests:
        charge, limit = request.charge, request.limit
        user, route = names.user_ledger(charge.user_id), names.route_ledger(charge, limit)
        keys += [user, names.queue(user), route, names.queue(route), names.guild_ledger(charge, limit)]
    return keys


def _settlement_keys(names: limits.Keys, settlement: protocol.Settlement) -> list[str]:
    charge, limit = settlement.permit.charge, settlement.permit.limit
    user, route = names.user_ledger(charge.user_id), names.route_ledger(charge, limit)
    headers = settlement.outcome.headers if settlement.outcome else None
    if headers is None:
        return [user, route, route, names.guild_ledger(charge, limit)]
    all_guilds = names.bucket_ledger(charge, headers.bucket, None)
    return [user, route, all_guilds, names.bucket_ledger(charge, headers.bucket, charge.major)]


def encode_request(request: protocol.PermitRequest, parameters: limits.LimiterParameters) -> dict[str, Any]:
    """Return a request as the script reads it."""
    charge, limit = request.charge, request.limit
    return {
        "id": request.id,
        "lane": limits.LANES.index(charge.lane) + 1,
        "waiter": request.waiter,
        "named": charge.waiter != "",
        "returns": request.returns,
        "early": _ms(request.early),
        "grace": _ms(request.grace),
        "callers": charge.callers or ("",),
        "brought_by": charge.brought_by,
        "user_id": "" if charge.user_id is None else str(charge.user_id),
        "charges_user": charge.charged_user is not None,
        "charges_global": parameters.charges_global(charge),
        "max_wait": _ms(request.max_wait),
        "route_key": charge.route_key,
        "stored_limit": limit.stored,
        "capacity": limit.capacity,
        "window": _ms(limit.window),
        "label": limits.route_label(charge),
        "unproven": request.unproven,
    }


def encode_settlement(settlement: protocol.Settlement, now: float) -> dict[str, Any]:
    """Return a settlement as the script reads it; *now* is of the clock that `read_at` was taken from."""
    permit, outcome = settlement.permit, settlement.outcome
    encoded: dict[str, Any] = {
        "id": permit.id,
        "lane": limits.LANES.index(permit.charge.lane) + 1,
        "stored_limit": permit.limit.stored,
    }
    if outcome is None:
        return encoded | {"unsent": True}
    encoded |= {
        # Rounded down: a permit may be free late, never early.
        "age": max(0, math.floor((now - settlement.read_at) * 1000)),
        "round_trip": math.floor(outcome.round_trip * 1000),
        "token_owner": permit.charge.token_owner,
        "route_key": permit.charge.route_key,
        "charged_at": permit.charged_at_ms,
        "window": _ms(permit.limit.window),
        "held": permit.held,
        "label": limits.route_label(permit.charge),
        "headers_expected": outcome.headers_expected,
        "invalid": outcome.invalid,
        "refused_of": permit.charge.brought_by if outcome.refused else "",
        "major": "" if permit.charge.major is None else str(permit.charge.major),
    }
    return encoded | _encode_optional(permit, outcome)


def _encode_optional(permit: limits.Permit, outcome: protocol.Outcome) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    if outcome.scope is not None:
        encoded |= {"scope": outcome.scope, "pause": _ms(outcome.pause), "clipped": outcome.clipped}
        encoded["disproves_per_guild"] = outcome.scope == "route" and permit.limit.per_guild
    if outcome.headers is not None:
        headers = outcome.headers
        encoded |= {"bucket": headers.bucket, "limit": headers.limit, "remaining": headers.remaining}
        encoded["reset"] = _ms(headers.reset_after)
    return encoded


def decode_settlement_result(reply: list[Any]) -> protocol.SettlementResult:
    """Decode the reply to a settlement."""
    foreign_calls, stored, stopped_ms = reply
    limit = route_limits.RouteLimit.parse_stored(decode_text(stored))
    return protocol.SettlementResult(foreign_calls, limit, stopped_ms / 1000)


def decode_decision(
    reply: list[Any], request: protocol.PermitRequest, user_capacity: int, now_ms: int
) -> protocol.Decision:
    """Decode the reply to a request; *now_ms* is the moment of the exchange on the fleet's clock."""
    if reply[0] == _LIMIT_CHANGED:
        return protocol.LimitChanged(route_limits.RouteLimit.parse_stored(decode_text(reply[1])))
    if reply[0] != _GRANTED:
        return protocol.Wait(reply[1] / 1000, decode_text(reply[2]), decode_text(reply[3]))
    _, delay_ms, used, capacity, user_used, route_used = reply
    shares_left = {"global": _share_left(used, capacity)} if capacity else {}
    if request.charge.charged_user is not None:
        shares_left["user"] = _share_left(user_used, user_capacity)
    if request.limit.known and request.limit.capacity:
        shares_left["route"] = _share_left(route_used, request.limit.capacity)
    return limits.Permit(
        id=request.id,
        charge=request.charge,
        taken_at=request.asked_at + delay_ms / 1000,
        charged_at_ms=now_ms + delay_ms,
        limit=request.limit,
        held=route_used,
        delay=delay_ms / 1000,
        shares_left=shares_left,
    )


def _share_left(used: int, capacity: int) -> float:
    return max(0.0, 1 - used / capacity)


def decode_text(value: bytes | str) -> str:
    """Decode a string that Redis returned."""
    return value.decode() if isinstance(value, bytes) else value
