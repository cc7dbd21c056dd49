"""The control endpoint of the Gateway: faults on demand, and counters."""

from typing import Annotated, Any, Literal

import msgspec

from devstack.simulator import gateway_sessions

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Snowflake = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}$")]


class GatewayFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, applied to all connections or sessions, or to those of one shard."""

    kind: Literal[
        "drop",
        "close",
        "reconnect",
        "invalid",
        "silent",
        "stall",
        "deaf",
        "double",
        "ack_delay",
        "replay_delay",
        "refuse_resumes",
        "outage",
        "outage_ends",
        "without_create",
        "expire",
        "clear",
    ]
    """`drop`: cut connections. `close`: close them with `code`. `reconnect`: op 7. `invalid`: op 9, `resumable`.
    `silent`: send and acknowledge nothing for `seconds`. `stall`: delay what is sent for `seconds`. `deaf`: the
    sessions of now get no events. `double`: send a `share` of events twice. `ack_delay`, `replay_delay`: `seconds`.
    `refuse_resumes`: the next `times`. `outage`, `outage_ends`, `without_create`: of `guild`. `expire`: sessions are
    gone when their connections are. `clear`: end all faults that last."""

    shard: int | None = None
    code: Annotated[int, msgspec.Meta(ge=1000, le=4999)] = 4000
    seconds: Seconds = 30.0
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    resumable: bool = False
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    guild: Snowflake = "0"


def parse(body: bytes) -> list[GatewayFault]:
    """Parse one fault or a list; raises msgspec.DecodeError."""
    if body.lstrip()[:1] == b"{":
        return [msgspec.json.decode(body, type=GatewayFault)]
    return msgspec.json.decode(body, type=list[GatewayFault])


def apply(hub: gateway_sessions.Hub, fault: GatewayFault) -> None:
    """Apply a fault."""
    if fault.kind in BREAKING:
        _break(hub, fault)
    elif fault.kind in {"outage", "outage_ends"}:
        hub.set_outage(int(fault.guild), begins=fault.kind == "outage")
    elif fault.kind == "clear":
        hub.faults = gateway_sessions.Faults(outages=hub.faults.outages, deaf=hub.faults.deaf)
    elif fault.kind == "deaf":
        hub.faults.deaf |= {session.id for session in _sessions(hub, fault)}
    elif fault.kind == "without_create":
        hub.faults.without_create.add(int(fault.guild))
    else:
        name, value = _setting(hub, fault)
        setattr(hub.faults, name, value)


BREAKING = frozenset({"drop", "close", "reconnect", "invalid", "expire"})


def _setting(hub: gateway_sessions.Hub, fault: GatewayFault) -> tuple[str, float]:
    until = hub.now() + fault.seconds
    settings: dict[str, tuple[str, float]] = {
        "silent": ("silent_until", until),
        "stall": ("stalled_until", until),
        "double": ("doubled", fault.share),
        "ack_delay": ("ack_delay", fault.seconds),
        "replay_delay": ("replay_delay", fault.seconds),
        "refuse_resumes": ("refused_resumes", fault.times),
    }
    return settings[fault.kind]


def _break(hub: gateway_sessions.Hub, fault: GatewayFault) -> None:
    for session in _sessions(hub, fault):
        link = session.link
        if fault.kind == "expire":
            hub.counts["sessions_ended"] += 1
            hub.end(session, 0)
        elif link is None:
            continue
        elif fault.kind == "reconnect":
            link.reconnect()
        elif fault.kind == "invalid":
            hub.counts["sessions_ended"] += not fault.resumable
            link.invalidate(resumable=fault.resumable)
        else:
            code = 0 if fault.kind == "drop" else fault.code
            hub.counts["sessions_ended"] += code in gateway_sessions.NO_RESUME
            link.close(code)


def _sessions(hub: gateway_sessions.Hub, fault: GatewayFault) -> list[gateway_sessions.Session]:
    return [each for each in hub.sessions.values() if fault.shard in {None, each.shard[0]}]


def document(hub: gateway_sessions.Hub) -> dict[str, Any]:
    """Return counters, violations and the sessions."""
    return {
        "counts": dict(sorted(hub.counts.items())),
        "violations": dict(sorted(hub.violations.items())),
        "identifies_left": hub.limits()["remaining"],
        "sessions": [
            {"id": each.id, "shard": list(each.shard), "seq": each.seq, "connected": each.link is not None}
            for each in hub.sessions.values()
        ],
    }
