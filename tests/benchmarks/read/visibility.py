"""
Hidden channels under concurrent reads: no page may show a channel that a completed job has hidden before.

Each writer has a user. It hides a few channels from the bot through the simulator, forces a new index of the user, and
records when the job has ended; later it shows them again in the same way. Readers request pages of all users meanwhile.
A page is wrong if it shows a hidden channel whose job had ended before the page was requested.
"""

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import grpc.aio
from google.protobuf import duration_pb2

from devstack import stack
from devstack.simulator import channels as simulated
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.benchmarks.read import worlds
from tests.system import conftest

WRITERS, READERS = 4, 8
GUILDS = 8
SERVICES, WORKERS = 2, 2
AT_ONCE = 3
"""Channels that a writer hides together."""
REST = 0.3
"""Longest pause of a writer, in seconds."""
DEADLINE = 30.0
SHOWN = 5
"""Wrong pages that are described."""


@dataclasses.dataclass
class Board:
    """
    Counters of writers and readers.

    Attributes:
        hidden: Channels that completed jobs have hidden, with the monotonic time of the job's end.
        in_play: Channels that writers hide and show.
        pages_with_shown: Pages with a channel in play that is not hidden.
        jobs_not_clean: Forced jobs that did not index the guild; their channels do not count as hidden.
    """

    hidden: dict[str, float] = dataclasses.field(default_factory=dict)
    in_play: set[str] = dataclasses.field(default_factory=set)
    pages: int = 0
    rows: int = 0
    writes: int = 0
    pages_with_shown: int = 0
    wrong: int = 0
    jobs_not_clean: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)

    def take(self, page: pb.ListChannelsResponse, asked: float, what: str) -> None:
        """Count a page and the hidden channels on it; *asked* is the monotonic time of the request."""
        self.pages += 1
        self.rows += len(page.channels)
        shown = {channel.channel_id for channel in page.channels} & self.in_play
        self.pages_with_shown += bool(shown - self.hidden.keys())
        late = {channel: asked - self.hidden[channel] for channel in shown & self.hidden.keys()}
        wrong = {channel: seconds for channel, seconds in late.items() if seconds > 0}
        if wrong:
            self.wrong += 1
            self.examples.append(f"{what}: {wrong}")


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Channels that one writer hides and shows, by guild."""

    user_id: str
    channels: Mapping[str, Sequence[str]]


def measure(seconds: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read and write for some seconds; returns the counters."""
    wanted = worlds.options(WRITERS, GUILDS, ("--without-bot", "0"), environment)
    with worlds.indexed(dataclasses.replace(wanted, services=SERVICES, workers=WORKERS)) as running:
        board = asyncio.run(_run(running, seconds))
    return {
        "seconds": seconds,
        "readers": READERS,
        "writers": WRITERS,
        "services": SERVICES,
        "pages": board.pages,
        "rows": board.rows,
        "writes": board.writes,
        "pages_with_shown": board.pages_with_shown,
        "wrong_pages": board.wrong,
        "jobs_not_clean": board.jobs_not_clean,
        "examples": board.examples[:SHOWN],
    }


async def _run(running: stack.Stack, seconds: float) -> Board:
    board, simulator = Board(), conftest.Simulator(running.simulator_url)
    async with _stubs(running) as stubs:
        parts = [await _part(stubs[0], number, user.id) for number, user in enumerate(running.users)]
        board.in_play = {channel for part in parts for mine in part.channels.values() for channel in mine}
        readers = [_read(stubs[number % len(stubs)], parts, board, random.Random(number)) for number in range(READERS)]
        writers = [
            _write(stubs[number % len(stubs)], simulator, part, board, random.Random(-1 - number))
            for number, part in enumerate(parts)
        ]
        tasks = [asyncio.create_task(each) for each in (*readers, *writers)]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
    return board


@contextlib.asynccontextmanager
async def _stubs(running: stack.Stack) -> AsyncIterator[list[worlds.Stub]]:
    async with contextlib.AsyncExitStack() as opened:
        channels = [
            await opened.enter_async_context(
                grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
            )
            for address in running.addresses
        ]
        yield [pb_grpc.IndexerServiceStub(channel) for channel in channels]


async def _part(stub: worlds.Stub, number: int, user_id: str) -> Part:
    """
    Return the channels of a user that this writer alone hides: guilds are shared, so every fourth of each.

    Discord lists a category as long as one of its channels is listed, so categories cannot be hidden alone.
    """
    guilds = (await stub.ListGuilds(pb.ListGuildsRequest(user_id=user_id, page_size=200))).guilds
    channels: dict[str, list[str]] = {}
    for guild in guilds:
        request = pb.ListChannelsRequest(user_id=user_id, guild_id=guild.guild_id, page_size=500)
        page = await stub.ListChannels(request)
        plain = [row.channel_id for row in page.channels if row.type != simulated.CATEGORY]
        mine = [channel_id for channel_id in plain if int(channel_id) % WRITERS == number]
        if mine:
            channels[guild.guild_id] = mine
    return Part(user_id, channels)


async def _write(
    stub: worlds.Stub, simulator: conftest.Simulator, part: Part, board: Board, chance: random.Random
) -> None:
    """Hide and show channels until cancelled."""
    while True:
        guild_id = chance.choice(list(part.channels))
        mine = part.channels[guild_id]
        chosen = chance.sample(mine, min(AT_ONCE, len(mine)))
        await _change(simulator, guild_id, chosen, hidden=True)
        if await _index(stub, part.user_id, guild_id):
            board.hidden |= dict.fromkeys(chosen, time.monotonic())
        else:
            board.jobs_not_clean += 1
        board.writes += 1
        await asyncio.sleep(chance.uniform(0, REST))
        for channel in chosen:
            board.hidden.pop(channel, None)
        await _change(simulator, guild_id, chosen, hidden=False)
        board.jobs_not_clean += not await _index(stub, part.user_id, guild_id)
        board.writes += 1
        await asyncio.sleep(chance.uniform(0, REST))


async def _change(simulator: conftest.Simulator, guild_id: str, channels: Sequence[str], *, hidden: bool) -> None:
    changes = [
        {"op": "change_channel", "guild": guild_id, "channel": channel, "hidden": hidden} for channel in channels
    ]
    await asyncio.to_thread(simulator.ask, "world", changes)


async def _index(stub: worlds.Stub, user_id: str, guild_id: str) -> bool:
    """Force a new index of the user; returns whether the job indexed the guild."""
    started = await stub.StartIndexing(pb.StartIndexingRequest(user_id=user_id, force=True), timeout=DEADLINE)
    job = started.job
    while job.state == pb.JOB_STATE_RUNNING:
        request = pb.WaitJobRequest(job_id=job.job_id, wait=duration_pb2.Duration(seconds=10))
        job = (await stub.WaitJob(request, timeout=DEADLINE)).job
    done: set[str] = set()
    async for event in stub.WatchProgress(pb.WatchProgressRequest(job_id=job.job_id), timeout=DEADLINE):
        done |= {row.guild_id for row in event.snapshot.guilds if row.state == pb.GUILD_STATE_SUCCEEDED}
    return guild_id in done and bool(started.disposition == pb.DISPOSITION_CREATED)


async def _read(stub: worlds.Stub, parts: Sequence[Part], board: Board, chance: random.Random) -> None:
    """Request pages until cancelled: of one guild, or of all guilds page by page."""
    while True:
        for what in _walks(parts, chance):
            request = pb.ListChannelsRequest()
            request.CopyFrom(what)
            while True:
                asked = time.monotonic()
                page = await stub.ListChannels(request, timeout=DEADLINE)
                board.take(page, asked, f"user {what.user_id}, guild {what.guild_id or 'all'}")
                request.page_token = page.next_page_token
                if not page.next_page_token:
                    break


def _walks(parts: Sequence[Part], chance: random.Random) -> Iterator[pb.ListChannelsRequest]:
    """Return the first requests of three walks."""
    orders = (pb.CHANNEL_ORDER_POSITION, pb.CHANNEL_ORDER_ACTIVITY)
    for _ in range(2):
        part = chance.choice(parts)
        guild_id = chance.choice(list(part.channels))
        yield pb.ListChannelsRequest(user_id=part.user_id, guild_id=guild_id, page_size=500)
    yield pb.ListChannelsRequest(user_id=chance.choice(parts).user_id, page_size=100, order=chance.choice(orders))
