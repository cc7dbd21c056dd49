"""The invariants I1 to I7, each a function of what was seen that returns a verdict with its count and its failures."""

import collections
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from devstack.simulator import models
from tests.benchmarks.limiter import figures
from tests.chaos import callers


class Arrival(NamedTuple):
    """A call that arrived at Discord: seconds since the simulator started, `bot` or the token's user."""

    at: float
    who: str
    route: str
    guild: str
    status: int


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """
    What a user is shown of one guild at one moment, and what is right.

    Attributes:
        exact: Whether a job has just reported the guild SUCCEEDED, so that everything must be shown.
        visible: Channels that the user may see.
        wanted: Those of them that the bot can see too.
    """

    moment: str
    user_id: str
    guild_id: str
    shown: Collection[str]
    visible: Collection[str]
    wanted: Collection[str]
    exact: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Fetches:
    """Fetches of one guild's channels in one wave, and how many are allowed."""

    guild_id: str
    count: int
    allowed: int


@dataclasses.dataclass(frozen=True, slots=True)
class Growth:
    """A size before and after equal load, and by how much it may grow."""

    what: str
    before: float
    after: float
    allowed: float


@dataclasses.dataclass(slots=True)
class Seen:
    """
    Everything that was seen of one run of a scenario.

    Attributes:
        limits: Capacity and window of the bot's and of each user's budget.
        refused: Calls that each model would have rejected, by class of the budget and model.
        unplanned_429: Calls that Discord's limits rejected.
        jobs: User of each accepted job.
        stored: Answer of GetJob for each accepted job: state, guild tasks that are open.
        ends: States in which a job may end.
        problems: Answers to callers that no rule of the API explains.
        crashes: Processes that ended although nobody ordered it.
        late: Processes that did not end in time after SIGTERM, or with another exit code than 0.
    """

    limits: Mapping[str, models.Limit] = dataclasses.field(default_factory=dict)
    arrivals: Sequence[Arrival] = ()
    refused: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    unplanned_429: int = 0
    jobs: dict[str, str] = dataclasses.field(default_factory=dict)
    stored: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    ends: Collection[str] = ("SUCCEEDED",)
    problems: "collections.Counter[str]" = dataclasses.field(default_factory=collections.Counter)
    watched: list[callers.Watched] = dataclasses.field(default_factory=list)
    views: list[View] = dataclasses.field(default_factory=list)
    fetches: list[Fetches] = dataclasses.field(default_factory=list)
    growth: list[Growth] = dataclasses.field(default_factory=list)
    processes: int = 0
    crashes: list[str] = dataclasses.field(default_factory=list)
    late: list[str] = dataclasses.field(default_factory=list)


class Verdict(NamedTuple):
    """Number of cases that were checked, and a line of text for each failure."""

    checked: int
    failures: list[str]


def never_over_a_limit(seen: Seen) -> Verdict:
    """I1: no budget is exceeded, in whatever way its windows are counted."""
    by_who: dict[str, list[float]] = collections.defaultdict(list)
    for arrival in seen.arrivals:
        # A fault in front of Discord answers calls whose token nobody has read: these are of many users and the bot.
        if arrival.who == "bot" or arrival.who.isdigit():
            by_who[arrival.who].append(arrival.at)
    failures = [
        f"{count} calls of {who} exceed {limit.capacity} per {limit.window:g} s"
        for who, moments in by_who.items()
        if (limit := seen.limits.get(who if who == "bot" else "user")) and (count := figures.rejected(limit, moments))
    ]
    failures += [
        f"{max(counts.values())} calls exceed the budget of class {name}: {dict(counts)}"
        for name, counts in seen.refused.items()
        if any(counts.values())
    ]
    failures += [f"{seen.unplanned_429} unexpected 429 responses"] if seen.unplanned_429 else []
    return Verdict(len(seen.arrivals), failures)


def every_job_ends(seen: Seen) -> Verdict:
    """I2: every accepted job ends in an allowed state, and each of its guild tasks ends once."""
    failures = [f"{count} x {problem}" for problem, count in seen.problems.items()]
    for job_id in seen.jobs:
        state, still_open = seen.stored.get(job_id, ("LOST", 0))
        if state not in seen.ends:
            failures.append(f"job {job_id} is {state}{_reasons(seen, job_id)}")
        if still_open:
            failures.append(f"job {job_id} is {state} and has {still_open} open guild tasks")
    failures += [f"job {one.job_id}, {line}" for one in seen.watched for line in one.back]
    return Verdict(len(seen.jobs), failures)


def _reasons(seen: Seen, job_id: str) -> str:
    """Return the reasons of the job and of its guilds that have one or failed, as text that may be empty."""
    watched = next((one for one in seen.watched if one.job_id == job_id), callers.Watched(job_id))
    rows = (f"{row.state} {row.error}".strip() for row in watched.rows.values() if row.error or row.state == "FAILED")
    guilds = collections.Counter(rows)
    return "".join(
        f" {reason}" for reason in [watched.error, *(f"{n} x {name}" for name, n in guilds.items())] if reason
    )


def stored_equals_the_world(seen: Seen) -> Verdict:
    """I3: a guild that a job reports SUCCEEDED is shown as it is at Discord."""
    exact = [view for view in seen.views if view.exact]
    failures = [
        f"{view.moment}: user {view.user_id}, guild {view.guild_id}: {len(missing)} channels missing, {len(more)} more"
        for view in exact
        if (missing := set(view.wanted) - set(view.shown)) | (more := set(view.shown) - set(view.wanted))
    ]
    return Verdict(len(exact), failures)


def nobody_reads_too_much(seen: Seen) -> Verdict:
    """I4: no channel is shown to a user who may not see it."""
    failures = [
        f"{view.moment}: user {view.user_id} is shown {len(more)} hidden channels of guild {view.guild_id}"
        for view in seen.views
        if (more := set(view.shown) - set(view.visible))
    ]
    return Verdict(len(seen.views), failures)


def every_watcher_sees_the_end(seen: Seen) -> Verdict:
    """I5: every watcher receives the job's final state and a final row for each guild."""
    failures = []
    for one in seen.watched:
        state, _ = seen.stored.get(one.job_id, ("LOST", 0))
        if one.state != state:
            failures.append(f"a watcher of job {one.job_id} sees {one.state} in place of {state}")
        elif one.open:
            failures.append(f"a watcher of job {one.job_id} sees {one.open} open guilds at the end")
        elif len(one.rows) != one.total:
            failures.append(f"a watcher of job {one.job_id} sees {len(one.rows)} of {one.total} guilds")
    return Verdict(len(seen.watched), failures)


def few_fetches(seen: Seen) -> Verdict:
    """I6: a guild is fetched at most once for each reason and each fault."""
    failures = [
        f"guild {each.guild_id} is fetched {each.count} times, {each.allowed} are allowed"
        for each in seen.fetches
        if each.count > each.allowed
    ]
    return Verdict(len(seen.fetches), failures)


def all_alive_and_small(seen: Seen) -> Verdict:
    """I7: no process crashes, all drain in time, and nothing grows."""
    failures = [f"crashed: {line}" for line in seen.crashes]
    failures += [f"did not drain: {line}" for line in seen.late]
    failures += [
        f"{each.what} grows from {each.before:g} to {each.after:g}, by more than {each.allowed:g}"
        for each in seen.growth
        if each.after > each.before + each.allowed
    ]
    return Verdict(seen.processes + len(seen.growth), failures)


INVARIANTS: Mapping[str, Callable[[Seen], Verdict]] = {
    "I1": never_over_a_limit,
    "I2": every_job_ends,
    "I3": stored_equals_the_world,
    "I4": nobody_reads_too_much,
    "I5": every_watcher_sees_the_end,
    "I6": few_fetches,
    "I7": all_alive_and_small,
}
