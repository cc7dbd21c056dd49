"""The phases of the measurement: what is asked for, what goes wrong meanwhile, and for how long."""

import dataclasses

from tests.benchmarks.limiter.demand import Load

HEAVY, LIGHT = 3, 55


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """
    One run of the fleet.

    Attributes:
        promise: What it is measured against, in a sentence.
        seconds: Of demand.
        users: That the simulator must know.
        loads: Of each process; the users are indexes among the simulator's.
        enforce: Whether the simulator says 429, or only notes that it would have.
        event: What happens meanwhile: kill, flush, stop, global, foreign.
    """

    name: str
    promise: str
    seconds: float
    loads: tuple[Load, ...]
    users: int = 0
    enforce: bool = False
    event: str = ""


def _bulk(lane: str = "background", callers: int = 15) -> Load:
    """Return demand of so many users that only the token limits it; *callers* ask in each process."""
    return Load(lane, list(range(1, 401)), callers=callers)


def all_phases(*, quick: bool) -> list[Phase]:
    """Return the phases; *quick* ones show that everything works, and measure little."""

    def lasting(seconds: float) -> float:
        return min(seconds, 20.0) if quick else seconds

    heavy = Load("interactive", list(range(HEAVY)), ["own"], callers=60)
    light = Load("interactive", list(range(HEAVY, HEAVY + LIGHT)), ["own"], rate=LIGHT * 0.2 / 4)
    more = _bulk(callers=25)
    waited_for = Load("interactive", list(range(1001, 1101)), rate=0.5)
    return [
        Phase("saturated", "no model rejects; 95 % of 50/s are used", lasting(300), (_bulk(),)),
        Phase(
            "lanes",
            "interactive waits 100 ms at p99; refresh lives",
            lasting(180),
            (_bulk(), waited_for, _bulk("refresh")),
        ),
        Phase(
            "users",
            "98 % of 5/5 s are used",
            lasting(240),
            # Each user's own callers: were they to choose, some user would now and then have nobody who asks for him.
            tuple(Load("interactive", [user], ["own"], callers=3) for user in range(8)),
            8,
        ),
        Phase("light", "for comparison: light users alone", lasting(60), (light,), HEAVY + LIGHT),
        Phase("light beside heavy", "light users wait as if alone", lasting(60), (heavy, light), HEAVY + LIGHT),
        # More callers where a process or a while is missing, or it is demand that is missed and not permits.
        Phase("killed", "a process is killed every 20 s: no model rejects", lasting(180), (more,), event="kill"),
        Phase("flushed", "Redis is emptied once: no model rejects", lasting(180), (more,), event="flush"),
        Phase("stopped", "a process stands still for 10 s: no model rejects", lasting(180), (more,), event="stop"),
        Phase("global 429", "all processes stop within 50 ms", 20, (_bulk(),), enforce=True, event="global"),
        Phase(
            "foreign",
            "10/s of somebody else are noticed in 5 s",
            lasting(60),
            (_bulk(),),
            enforce=True,
            event="foreign",
        ),
    ]
