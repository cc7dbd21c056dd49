"""The phases of the measurement: demand, faults and durations."""

import dataclasses

from tests.benchmarks.limiter.demand import Load

HEAVY, LIGHT = 3, 55


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """
    One run of the fleet.

    Attributes:
        promise: The promise that the phase checks.
        seconds: Duration of the demand.
        users: Number of the simulator's users.
        loads: Demand of each process; users are indexes among the simulator's.
        enforce: Whether the simulator answers 429, or only counts what it would reject.
        event: Fault or event during the phase: kill, flush, stop, global, foreign.
    """

    name: str
    promise: str
    seconds: float
    loads: tuple[Load, ...]
    users: int = 0
    enforce: bool = False
    event: str = ""


def _bulk(lane: str = "background", callers: int = 15) -> Load:
    """Return demand of so many users that only the token limits it, with *callers* in each process."""
    return Load(lane, list(range(1, 401)), callers=callers)


def all_phases(*, quick: bool) -> list[Phase]:
    """Return the phases; *quick* ones show that everything runs, and measure little."""

    def lasting(seconds: float) -> float:
        return min(seconds, 20.0) if quick else seconds

    heavy = Load("interactive", list(range(HEAVY)), ["own"], callers=60)
    light = Load("interactive", list(range(HEAVY, HEAVY + LIGHT)), ["own"], rate=LIGHT * 0.2 / 4)
    more = _bulk(callers=25)
    interactive = Load("interactive", list(range(1001, 1101)), rate=0.5)
    return [
        Phase("saturated", "no model rejects; 95 % of 50/s are used", lasting(300), (_bulk(),)),
        Phase(
            "lanes",
            "interactive waits 100 ms at p99; refresh is not starved",
            lasting(180),
            (_bulk(), interactive, _bulk("refresh")),
        ),
        Phase(
            "users",
            "98 % of 5/5 s are used",
            lasting(240),
            # Each user has callers of their own: with shared callers, some user would at times have none.
            tuple(Load("interactive", [user], ["own"], callers=3) for user in range(8)),
            8,
        ),
        Phase("light", "for comparison: light users alone", lasting(60), (light,), HEAVY + LIGHT),
        Phase("light beside heavy", "light users wait as if alone", lasting(60), (heavy, light), HEAVY + LIGHT),
        # More callers where a process or time is lost: otherwise demand would be the limit, and not permits.
        Phase("killed", "a process is killed every 20 s: no model rejects", lasting(180), (more,), event="kill"),
        Phase("flushed", "Redis is emptied once: no model rejects", lasting(180), (more,), event="flush"),
        Phase("stopped", "a process is suspended for 10 s: no model rejects", lasting(180), (more,), event="stop"),
        Phase("global 429", "all processes stop within 50 ms", 20, (_bulk(),), enforce=True, event="global"),
        Phase(
            "foreign",
            "10/s of foreign usage are noticed in 5 s",
            lasting(60),
            (_bulk(),),
            enforce=True,
            event="foreign",
        ),
    ]
