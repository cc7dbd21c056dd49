"""The simulated worlds, and how their users start."""

import dataclasses
from collections.abc import Sequence

from devstack import stack
from devstack.simulator import routes

LATENCY = "30-70"
"""Round trips in milliseconds: 15 to 35 one way."""
BUDGET = 50
"""Calls a second of the global limit that the simulator enforces."""
OPEN = "1000/1"
"""A limit that no user reaches."""
OPEN_LISTS = ("--route-limit", f"{routes.USER_GUILDS}={OPEN}")
"""The bot's guild list has a page for every 200 guilds, and no run starts before it is read."""
OPEN_LIMITS = ("--user-limit", OPEN, "--route-limit", f"{routes.OWN_MEMBER}={OPEN}")


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """
    One world and its load.

    Attributes:
        users: Users who start at once.
        world: Further options of the simulator.
        workers: Numbers of worker processes to measure with.
        rounds: Default number of runs, each on a new stack.
        limit: Seconds after which an unfinished run is reported as such.
        open_budget: Whether the global limit is the only one in effect.
        spread: Seconds over which the starts are spread.
        visitors: Users who start one after the other meanwhile, and cancel once they have a guild.
        first_only: Whether a run ends once every user has an indexed guild.
        most_channels: Channels to leave in a guild, 0 for all.
    """

    users: int
    guilds_per_user: int
    world: Sequence[str] = ()
    workers: Sequence[int] = (1, 4)
    rounds: int = 1
    limit: float = 300.0
    open_budget: bool = True
    spread: float = 0.0
    visitors: int = 0
    first_only: bool = False
    most_channels: int = 0

    def options(self, workers: int) -> stack.Options:
        """Return the options of this scenario's stack."""
        return stack.Options(
            users=self.users + self.visitors,
            workers=workers,
            guilds_per_user=self.guilds_per_user,
            latency=LATENCY,
            simulator=("--without-bot", "0", *self.world, *OPEN_LISTS, *(OPEN_LIMITS if self.open_budget else ())),
            environment={"USER_BUDGET": OPEN} if self.open_budget else {},
        )


SCENARIOS = {
    "A": Scenario(1, 200, rounds=10, limit=120),
    "B": Scenario(20, 60, ("--guilds", "465"), rounds=10),
    "first": Scenario(20, 60, ("--guilds", "465"), rounds=10, first_only=True),
    "crowd": Scenario(300, 30, ("--guilds", "1863"), (4,), limit=600, open_budget=False, spread=3),
    "starts": Scenario(150, 190, ("--no-sharing",), (4,), limit=1500, open_budget=False, visitors=40),
    "saturation": Scenario(30, 50, ("--no-sharing", "--channels-per-guild", "1"), (4,), most_channels=4),
}
"""B and crowd have 418 and 1,825 different guilds, starts 28,500 (and those of its visitors)."""

QUICK = {
    "A": dataclasses.replace(SCENARIOS["A"], guilds_per_user=50),
    "B": dataclasses.replace(SCENARIOS["B"], users=5, guilds_per_user=20, world=("--guilds", "60")),
    "first": dataclasses.replace(SCENARIOS["first"], users=5, guilds_per_user=20, world=("--guilds", "60")),
    "crowd": dataclasses.replace(SCENARIOS["crowd"], users=30, guilds_per_user=15, world=("--guilds", "150")),
    "starts": dataclasses.replace(SCENARIOS["starts"], users=10, guilds_per_user=15, limit=60, visitors=2),
    "saturation": dataclasses.replace(SCENARIOS["saturation"], users=6),
}
"""Small versions, to check that the benchmark works."""
