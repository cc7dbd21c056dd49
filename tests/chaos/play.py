"""What a scenario uses: the fleet's links, processes, servers and Discord, seeded dice, and load."""

import asyncio
import json
import random
import time
import urllib.request
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from indexer_service.v1 import indexer_pb2 as pb
from tests.chaos import callers, fleet, invariants, links

T = TypeVar("T")


class Play:
    """
    One run of a scenario on a running fleet.

    Attributes:
        dice: Random numbers of the run's seed.
        faults: Faults so far; I6 allows one more fetch of a guild for each.
        foreign: Whether another client uses the bot's token, so that Discord may reject calls.
        forces: Whether the scenario forces jobs itself; I6 allows a fetch of a guild for each of its users then.
        world_moves: Whether the scenario changes Discord's data, so that what is stored meanwhile cannot be compared.
        notes: Facts for the report.
        pace: Factor of the lengths of faults that hold, freeze or kill something.
    """

    def __init__(self, running: fleet.Fleet, load: callers.Callers, seed: int, pace: float = 1.0) -> None:
        self.fleet, self.load, self.pace = running, load, pace
        self.dice = random.Random(seed)
        self.seen = invariants.Seen()
        self.faults = 0
        self.foreign = self.world_moves = self.forces = False
        self.notes: dict[str, object] = {}
        self.users = [user.id for user in running.users]
        self._watching: list[asyncio.Task[callers.Watched]] = []

    # Time

    async def pause(self, least: float, most: float | None = None) -> None:
        """Let the product work for some seconds, drawn between two bounds."""
        await asyncio.sleep(self.dice.uniform(least, least if most is None else most))

    async def do(self, work: Callable[..., T], *arguments: object) -> T:
        """Run a blocking function in a thread."""
        return await asyncio.to_thread(work, *arguments)

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> bool:
        """Wait until a blocking condition holds; returns whether it did in time."""
        deadline = time.monotonic() + seconds
        while not await self.do(condition):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def fetched(self, number: int, seconds: float = 20.0) -> bool:
        """Wait until Discord has answered *number* fetches of channels since the counters were reset."""
        return await self.until(lambda: bool(self.discord("stats")["channel_fetches"] >= number), seconds)

    # Parts

    def to(self, server: str, process: str = "") -> list[links.Link]:
        """Return the links to a server, of all processes or of those whose names start with *process*."""
        return [
            link
            for (name, end), link in self.fleet.links.items()
            if end == server and name != fleet.CLIENT and name.startswith(process)
        ]

    def callers_links(self) -> list[links.Link]:
        """Return the links between callers and services."""
        return [link for (name, _), link in self.fleet.links.items() if name == fleet.CLIENT]

    def fault(self, number: int = 1) -> None:
        """Count faults."""
        self.faults += number

    async def lasting(self, chosen: Iterable[links.Link], seconds: float, **weather: Any) -> None:  # noqa: ANN401 -- fields of Weather
        """Give links a weather for some seconds."""
        changed = list(chosen)
        self.fault()
        for link in changed:
            link.weather = links.Weather(**weather)
        await self.pause(self.pace * seconds)
        for link in changed:
            link.weather = links.Weather()

    async def held(self, chosen: Iterable[links.Link], seconds: float) -> None:
        """Deliver nothing over links for some seconds, then everything."""
        changed = list(chosen)
        self.fault()
        for link in changed:
            link.hold()
        await self.pause(self.pace * seconds)
        for link in changed:
            link.release()

    def cut(self, chosen: Iterable[links.Link]) -> None:
        """Reset all connections of links."""
        self.fault()
        for link in chosen:
            link.cut()

    def heal(self) -> None:
        """End all faults of links and of Discord."""
        for link in self.fleet.links.values():
            link.heal()
        self.discord("faults", method="DELETE")

    async def kill(self, name: str, seconds: float) -> None:
        """Kill a program, and start it again after some seconds."""
        self.fault()
        await self.do(self.fleet.kill, name)
        await self.pause(self.pace * seconds)
        await self.do(self.fleet.restart, name)

    async def freeze(self, name: str, seconds: float) -> None:
        """Stop a program for some seconds with SIGSTOP."""
        self.fault()
        self.fleet.signal(name, 19)
        await self.pause(self.pace * seconds)
        self.fleet.signal(name, 18)

    def discord(self, page: str, body: object = None, method: str | None = None) -> Any:  # noqa: ANN401 -- any JSON
        """Return the response of a control endpoint of the simulator; a body is sent as POST."""
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.fleet.simulator_url}/_sim/{page}"
        request = urllib.request.Request(url, data, method=method)  # noqa: S310 -- loopback
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 -- loopback
            return json.load(answer)

    def rule(self, kind: str, **fields: object) -> None:
        """Add a fault rule to the simulator."""
        self.fault()
        self.discord("faults", {"kind": kind, **fields})

    # Load

    async def start(self, user_id: str, *, force: bool = False, watchers: int = 0, number: int = 0) -> str:
        """Start a job that must end, with watchers that must see its end; returns its id or an empty one."""
        job_id = await self.load.start(user_id, force=force, number=number)
        if job_id:
            self.follow(job_id, user_id, watchers=watchers, number=number)
        return job_id

    async def all_started(self) -> list[str]:
        """Wait until each user has an accepted job; returns the ids of all jobs."""
        while not set(self.users) <= set(self.seen.jobs.values()):  # noqa: ASYNC110 -- the wave starts them
            await asyncio.sleep(0.05)
        return list(self.seen.jobs)

    async def consent(self, user_id: str) -> None:
        """Let a user give consent again, and store the new credential."""
        (granted,) = await self.do(self.discord, "world", {"op": "consent", "user": user_id})
        scopes = next(each.scopes for each in self.fleet.users if each.id == user_id)
        request = pb.PutCredentialRequest(
            user_id=user_id, access_token=granted["token"], refresh_token=granted["refresh_token"], scopes=scopes
        )
        await self.load.call("PutCredential", request)

    def follow(self, job_id: str, user_id: str, *, watchers: int = 1, number: int = 0) -> None:
        """Note a job that must end, with watchers that must see its end; the second one is away while it ends."""
        self.seen.jobs[job_id] = user_id
        first: asyncio.Task[callers.Watched] | None = None
        for each in range(watchers):
            away_until = first if each == 1 else None
            watching = self.load.watch(job_id, number + each, away_until=away_until)
            self._watching.append(task := asyncio.create_task(watching, name=job_id))
            first = first or task

    def erase(self, users: Collection[str]) -> None:
        """Expect nothing of the jobs of erased users."""
        self.seen.jobs = {job_id: user for job_id, user in self.seen.jobs.items() if user not in users}
        self.load.expected |= {"WatchProgress: NOT_FOUND", "ListChannels: NOT_FOUND"}

    async def start_all(self, *, force: bool, watchers: int) -> list[str]:
        """Start a job for each user at once."""
        starts = [self.start(user, force=force, watchers=watchers, number=n) for n, user in enumerate(self.users)]
        return [job_id for job_id in await asyncio.gather(*starts) if job_id]

    async def ends(self) -> list[callers.Watched]:
        """Wait until all jobs and watchers have ended; returns what they received since the last call."""
        known = {one.job_id for one in self.seen.watched} | {one.get_name() for one in self._watching}
        for job_id in set(self.seen.jobs) - known:
            self.follow(job_id, self.seen.jobs[job_id])
        watched = [one for one in await asyncio.gather(*self._watching) if one.job_id in self.seen.jobs]
        self._watching.clear()
        self.seen.watched += watched
        return watched
