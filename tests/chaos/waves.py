"""A run of a scenario: a wave of jobs under its faults, a wave after them on changed data, and all that is seen."""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from devstack.simulator import models
from indexer_service.v1 import indexer_pb2 as pb
from tests.chaos import callers, fleet, invariants, play, sizes

CHANNELS = "GET /guilds/{guild.id}/channels"
HEALED = 60.0
"""Seconds in which all jobs must end after faults that demand no longer wait."""
LATER = 1.5
"""Seconds after the last job until the users are asked again what they see."""
DRAIN = 12.0
"""Seconds after SIGTERM in which a process must have ended; the stack gives it 3 s to drain."""
CHANGED_GUILDS = 8
RSS, FILES, CONNECTIONS, KEYS = 24.0, 24, 40, 8
"""Growth of a process in MiB and open files, and of Redis in connections and keys, that two equal waves may cause."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """
    A scenario.

    Attributes:
        name: Name on the command line.
        group: The part whose faults it plays.
        promise: What holds, in one sentence.
        run: Plays the faults beside a wave of jobs.
        shape: Size and settings of the fleet.
        ends: States in which jobs may end.
        patience: Seconds after the faults in which all jobs must end.
        excused: Invariants that are not checked, with the reason.
    """

    name: str
    group: str
    promise: str
    run: Callable[[play.Play], Awaitable[None]]
    shape: fleet.Shape = fleet.USUAL
    ends: Collection[str] = ("SUCCEEDED",)
    patience: float = HEALED
    excused: Mapping[str, str] = dataclasses.field(default_factory=dict)


async def run_scenario(
    scenario: Scenario, running: fleet.Fleet, seed: int, *, again: bool = False, pace: float = 1.0
) -> play.Play:
    """
    Play a scenario on a running fleet, without the drain at its end.

    Args:
        scenario: The scenario.
        running: The fleet.
        seed: Seed of all random choices.
        again: Whether the fleet has played a scenario before, so that its guilds are known.
        pace: Factor of the lengths of faults, and of the time after which users are asked again what they see.
    """
    load = callers.Callers(running.callers_addresses)
    stage = play.Play(running, load, seed, pace)
    stage.seen.ends = scenario.ends
    try:
        await stage.do(stage.discord, "reset", {})
        await _faulted_wave(scenario, stage, force=again)
        before = await stage.do(sizes.of, stage.fleet)
        await _wave_after(stage)
        after = await stage.do(sizes.of, stage.fleet)
        await _ask_stored(stage)
        _compare_sizes(stage, before, after)
        read_arrivals(stage, await stage.do(stage.discord, "stats?log=1"))
    finally:
        stage.notes["repeats"] = dict(load.repeats)
        await load.close()
    return stage


async def _faulted_wave(scenario: Scenario, stage: play.Play, *, force: bool) -> None:
    """Start a job for each user while the faults begin, and wait for all ends after the faults."""
    began = time.monotonic()
    stage.load.until = began + 10 * scenario.patience
    starting = asyncio.create_task(stage.start_all(force=force, watchers=2))
    try:
        await scenario.run(stage)
    finally:
        await stage.do(stage.heal)
    stage.load.until = time.monotonic() + scenario.patience
    await starting
    stage.notes["faults_s"] = round(time.monotonic() - began, 1)
    watched = await stage.ends()
    stage.notes["first_wave_s"] = round(time.monotonic() - began, 1)
    await _compare(stage, "during", watched if not stage.world_moves else [])
    await asyncio.to_thread(_count_fetches, stage, mark=0.0, force=force or stage.forces)


async def _wave_after(stage: play.Play) -> None:
    """Change Discord's data, and force a job for each user: all must be as it is now."""
    stage.load.until = time.monotonic() + HEALED
    began = time.monotonic()
    mark = float((await stage.do(stage.discord, "stats"))["now"])
    await stage.do(change_world, stage)
    await stage.start_all(force=True, watchers=1)
    watched = await stage.ends()
    stage.notes["second_wave_s"] = round(time.monotonic() - began, 1)
    await _compare(stage, "after", watched)
    await asyncio.to_thread(_count_fetches, stage, mark=mark, force=True)
    await stage.pause(stage.pace * LATER)
    await _compare(stage, "later", watched)


def _count_fetches(stage: play.Play, *, mark: float, force: bool) -> None:
    """Count the fetches of each guild since a time; a forced job needs one that began after it."""
    log = _arrivals(stage.discord("stats?log=1"))
    counts = collections.Counter(
        one.guild for one in log if one.route == CHANNELS and one.status == 200 and one.at >= mark
    )
    members = _members(stage) if force else collections.Counter[str]()
    faults = stage.faults if not mark else 0
    for guild, count in counts.items():
        stage.seen.fetches.append(invariants.Fetches(guild, count, max(1, members[guild]) + faults))


def _members(stage: play.Play) -> "collections.Counter[str]":
    """Return the number of users of each guild."""
    truths = [stage.discord(f"truth/{user}") for user in stage.users]
    return collections.Counter(guild["id"] for truth in truths for guild in truth["guilds"])


def change_world(stage: play.Play) -> None:
    """Remove, hide and rename channels of some guilds, and take a member's roles."""
    guilds = {}
    for user in stage.users:
        for guild in stage.discord(f"truth/{user}")["guilds"]:
            if guild["bot"] and not guild["owner"]:
                guilds[guild["id"]] = user
    chosen = sorted(guilds)
    stage.dice.shuffle(chosen)
    changes: list[dict[str, object]] = []
    for guild in chosen[:CHANGED_GUILDS]:
        texts = [each for each in stage.discord(f"guilds/{guild}")["channels"] if each["type"] == 0]
        stage.dice.shuffle(texts)
        if len(texts) > 3:
            hidden = [{"id": guild, "type": 0, "allow": "0", "deny": "1024"}]
            changes += [
                {"op": "remove_channel", "guild": guild, "channel": texts[0]["id"]},
                {"op": "change_channel", "guild": guild, "channel": texts[1]["id"], "overwrites": hidden},
                {"op": "change_channel", "guild": guild, "channel": texts[2]["id"], "name": "renamed"},
            ]
        changes.append({"op": "change_member", "guild": guild, "user": guilds[guild], "roles": []})
    stage.discord("world", changes)


async def _compare(stage: play.Play, moment: str, watched: list[callers.Watched]) -> None:
    """Compare what each user is shown with what they may see."""
    # The first call over a connection that nobody has used since the fault may find it dead.
    stage.load.until = max(stage.load.until, time.monotonic() + HEALED)
    rows = {stage.seen.jobs[one.job_id]: one.rows for one in watched}
    for user in stage.users:
        truth, shown = await asyncio.gather(stage.do(stage.discord, f"truth/{user}"), stage.load.channels(user))
        right = {guild["id"]: guild for guild in truth["guilds"]}
        for guild in sorted(right.keys() | (shown or {}).keys()):
            stage.seen.views.append(
                _view(moment, user, right.get(guild, {"id": guild}), shown or {}, rows.get(user, {}))
            )


def _view(
    moment: str,
    user: str,
    right: Mapping[str, Any],
    shown: Mapping[str, set[str]],
    rows: Mapping[str, callers.Row],
) -> invariants.View:
    guild = right["id"]
    row = rows.get(guild)
    # A category that the user sees only for channels that the bot cannot see cannot be known.
    blind = set(right.get("categories", ()))
    # A guild is skipped for want of the bot only.
    done = {"SUCCEEDED", "SKIPPED"} if right.get("bot") else {"SUCCEEDED"}
    exact = row is not None and row.state in done and (not row.error or row.state == "SKIPPED")
    return invariants.View(
        moment=moment,
        user_id=user,
        guild_id=guild,
        shown=shown.get(guild, set()) - blind,
        visible=set(right.get("channels", ())) - blind,
        wanted=set(right.get("indexable", ())) - blind,
        exact=exact and "indexable" in right,
    )


async def _ask_stored(stage: play.Play) -> None:
    """Ask for the stored state of all accepted jobs."""
    for job_id in stage.seen.jobs:
        answer = await stage.load.call("GetJob", pb.GetJobRequest(job_id=job_id))
        if answer is not None:
            state = pb.JobState.Name(answer.job.state).removeprefix("JOB_STATE_")
            stage.seen.stored[job_id] = (state, answer.job.progress.queued + answer.job.progress.running)


def _arrivals(stats: Mapping[str, Any]) -> list[invariants.Arrival]:
    return [invariants.Arrival(*entry) for entry in stats["log"]]


def read_arrivals(stage: play.Play, stats: Mapping[str, Any]) -> None:
    """Take over what Discord has counted."""
    shape, seen = stage.fleet.shape, stage.seen
    seen.limits = {"bot": models.Limit(shape.rate, 1.0), "user": models.Limit(shape.user_rate, 1.0)}
    seen.arrivals = _arrivals(stats)
    if not stage.foreign:
        seen.refused = stats["would_be_rejections"]
        seen.unplanned_429 = sum(stats["http_429_by_class"].values())
    seen.problems = stage.load.problems
    stage.notes["calls"] = stats["calls"]


def _compare_sizes(stage: play.Play, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    allowed = {"MiB": RSS, "files": FILES, "connections": CONNECTIONS, "keys": KEYS, "documents": 0.0}
    users, shape = len(stage.users), stage.fleet.shape
    # The second wave's jobs, with a row for each guild in the form of the previous release.
    allowed |= {"documents in jobs": users, "documents in units": users * shape.guilds}
    # Guilds that no job of the first wave has listed.
    for what in ("documents in guilds", "documents in rosters"):
        allowed[what] = max(0.0, shape.pool - before.get(what, 0.0))
    for what, size in after.items():
        more = allowed.get(what, allowed[what.split()[0]])
        stage.seen.growth.append(invariants.Growth(what, before.get(what, 0.0), size, more))
    stage.seen.processes = len(stage.fleet.processes)
    stage.seen.crashes = list(stage.fleet.crashes)


async def drain(running: fleet.Fleet) -> list[str]:
    """Send SIGTERM to all processes at once; returns those that do not end well in time."""

    async def end(name: str) -> str:
        try:
            code = await asyncio.wait_for(asyncio.to_thread(running.terminate, name), DRAIN)
        except TimeoutError:
            running.kill(name)
            return f"{name} is still running after {DRAIN:g} s"
        return f"{name} ends with exit code {code}" if code else ""

    return [line for line in await asyncio.gather(*map(end, running.processes)) if line]
