"""Figures from the records and the simulator's log: arrivals, rejections by four models, waits, reactions."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from devstack.simulator import models
from tests.benchmarks.limiter import demand, fleet, phases

GLOBAL, USER = models.Limit(50, 1.0), models.Limit(5, 5.0)
PHASES = 10
"""Number of phases of the wall clock's windows."""
EDGE = 3.0
"""Seconds left out at both ends of a run, while the fleet starts and stops."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """One line of the report; waits in milliseconds, `ratio` of calls to what the limit permits."""

    phase: str
    promise: str
    calls: int
    permitted: int
    ratio: float
    rejections: int
    peak: int
    waits: dict[str, dict[str, float]]
    commands_per_call: float
    script_us: float
    cpu_ms_per_call: float
    extra: dict[str, float]


def compute_figures(of: fleet.Measured) -> Figures:
    """Return the figures of a phase."""
    records = [record for process in of.records for record in process]
    # All calls wait for the warm-up hold; a window later the backlog is gone.
    settled = [record for record in records if record.asked > of.began + fleet.HOLD + USER.window]
    arrivals = [(entry[0], str(entry[1])) for entry in of.stats["log"] if "/_sim" not in entry[2]]
    ours = len(records)
    calls, permitted = _used(of, arrivals)
    script = of.commands.get("cmdstat_evalsha", {"calls": 0, "usec_per_call": 0.0})
    return Figures(
        phase=of.phase.name,
        promise=of.phase.promise,
        calls=ours,
        permitted=permitted,
        ratio=calls / permitted if permitted else 0.0,
        rejections=of.stats["http_429"] if of.phase.enforce else _rejections(arrivals),
        peak=peak([moment for moment, _ in arrivals]),
        waits=_waits(settled),
        commands_per_call=sum(command["calls"] for name, command in of.commands.items() if _paid(name)) / max(ours, 1),
        script_us=script["usec_per_call"],
        cpu_ms_per_call=1000 * of.cpu / max(ours, 1),
        extra=_extra(of, settled),
    )


def _paid(name: str) -> bool:
    """Return whether a process sends this command; commands inside scripts are part of the scripts' time."""
    return name in {"cmdstat_evalsha", "cmdstat_script|load"}


def _used(of: fleet.Measured, arrivals: Sequence[tuple[float, str]]) -> tuple[int, int]:
    """Return calls and what the limit permits, between the first and the last second of demand."""
    if not arrivals:
        return 0, 0
    begin, end = arrivals[0][0] + EDGE, arrivals[-1][0] - EDGE
    inside = [one for one in arrivals if begin <= one[0] < end]
    if of.phase.name == "users":
        # With five calls in five seconds, partial windows at the ends would distort the ratio.
        return len(inside), int((end - begin) * USER.capacity / USER.window * of.phase.users)
    return len(inside), int((end - begin) * GLOBAL.capacity / GLOBAL.window)


def _rejections(arrivals: Sequence[tuple[float, str]]) -> int:
    """Return how many calls any of the four models would have rejected, of the token's and of each user's."""
    by_user: dict[str, list[float]] = {}
    for moment, who in arrivals:
        if who != "bot":
            by_user.setdefault(who, []).append(moment)
    budgets = [(GLOBAL, [moment for moment, _ in arrivals]), *((USER, moments) for moments in by_user.values())]
    return sum(rejected(limit, moments) for limit, moments in budgets)


def rejected(limit: models.Limit, moments: Sequence[float]) -> int:
    """Return how many of the calls some model rejects, the wall clock's windows in ten phases."""
    others = models.all_models(limit, 0.0)[1:]
    walls = [models.WallWindow(limit, limit.window * number / PHASES) for number in range(PHASES)]
    count = 0
    for moment in sorted(moments):
        for model in (*walls, *others):
            if model.wait(moment) > 0:
                count += 1
            else:
                model.count(moment)
    return count


def peak(moments: Sequence[float]) -> int:
    """Return the most calls in any second."""
    most, first = 0, 0
    ordered = sorted(moments)
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= GLOBAL.window:
            first += 1
        most = max(most, last - first + 1)
    return most


def _waits(records: Sequence[demand.Record]) -> dict[str, dict[str, float]]:
    by_lane: dict[str, list[float]] = {}
    for record in records:
        by_lane.setdefault(record.lane, []).append(1000 * (record.sent - record.asked))
    return {
        lane: {"calls": len(waits), "p50": quantile(waits, 0.5), "p99": quantile(waits, 0.99), "max": max(waits)}
        for lane, waits in by_lane.items()
    }


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _extra(of: fleet.Measured, records: Sequence[demand.Record]) -> dict[str, float]:
    if of.phase.name.startswith("light"):
        return _light(of)
    if of.phase.event == "global":
        return _stopped_after(of)
    if of.phase.event == "foreign":
        return _foreign_usage_noticed(of, records)
    return {}


def _light(of: fleet.Measured) -> dict[str, float]:
    """Return the waits of light users in milliseconds, without those for their own budget."""
    heavy = {int(of.users[number]) for number in range(phases.HEAVY)}
    light = [record for process in of.records for record in process if record.user not in heavy]
    # The backlog of the warm-up hold goes first.
    late = [record for record in light if record.asked > of.began + fleet.HOLD + 3 * USER.window]
    waits = [1000 * (record.sent - record.asked) for record in late if not _blocked_by_own_budget(record, light)]
    return {"light_calls": len(waits), "light_p50": quantile(waits, 0.5), "light_p99": quantile(waits, 0.99)}


def _blocked_by_own_budget(record: demand.Record, others: Sequence[demand.Record]) -> bool:
    """Return whether the user's own budget was used up while the call waited."""
    busy = [other for other in others if other.user == record.user and other.sent < record.sent]
    return sum(other.read > record.asked - USER.window for other in busy) >= USER.capacity


def _stopped_after(of: fleet.Measured) -> dict[str, float]:
    """Return how long after the 429 was read the last process sent another call, in milliseconds."""
    read = min(record.read for process in of.records for record in process if record.status == 429)
    last = max((r.sent for process in of.records for r in process if r.sent < read + 1.0), default=read)
    resumed = min((r.sent for process in of.records for r in process if r.sent > read + 1.0), default=read)
    return {"last_sent_ms_after": 1000 * (last - read), "paused_seconds": resumed - read}


def _foreign_usage_noticed(of: fleet.Measured, records: Sequence[demand.Record]) -> dict[str, float]:
    """Return when the first 429 was read after foreign usage began, and the 429s in its first 20 s and later."""
    began = of.events[0]
    throttled = sorted(record.read for record in records if record.status == 429)
    first = throttled[0] - began if throttled else -1.0
    late = sum(moment > began + 20.0 for moment in throttled)
    return {"noticed_seconds": first, "rejected_first_20_s": len(throttled) - late, "rejected_later": late}


def per_second(of: fleet.Measured) -> list[tuple[float, float]]:
    """Return the headroom over time: second since the start, share of the global budget that was free in it."""
    sent = sorted(record.sent - of.began for process in of.records for record in process)
    counts = {second: len(list(group)) for second, group in itertools.groupby(sent, int)}
    return [(float(second), 1 - counts.get(second, 0) / GLOBAL.capacity) for second in range(int(sent[-1]))]


def summary(found: Sequence[Figures]) -> list[dict[str, Any]]:
    """Return the figures as JSON."""
    return [dataclasses.asdict(one) for one in found]
