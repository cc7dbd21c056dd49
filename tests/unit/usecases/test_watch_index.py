"""Streams of what a user may see: never a row that is hidden, and in the end the same as the pages."""

import asyncio
import bisect
import contextlib
import dataclasses
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from indexer_service.api import convert
from indexer_service.v1 import indexer_pb2 as pb
from indexing import concurrency, errors
from indexing.domain import model
from indexing.usecases import browse, change_notifier, read_cache, sent_index, watch_index
from tests import fake_backend, stored, values
from tests.unit.usecases import test_read_cache as reading

pytestmark = pytest.mark.clockwork
USER, GUILDS, ALL = reading.USER, reading.GUILDS, reading.ALL
HEARTBEAT = 5.0
QUIET = change_notifier.POLL_INTERVAL + 2.0
Step = tuple[watch_index.Message, watch_index.Position | None]
Stream = AsyncGenerator[Step, None]


class Client:
    """Keeps rows as the API file tells callers to."""

    def __init__(self) -> None:
        self.guilds: dict[int, pb.Guild] = {}
        self.channels: dict[int, pb.Channel] = {}
        self.position: dict[int, bytes] | None = None
        self.resets = 0
        self.changes = 0

    def take(self, step: Step) -> list[pb.Channel]:
        """Apply a message; returns the channels in it."""
        message, position = step
        self.position = self.position if position is None else dict(position)
        if isinstance(message, watch_index.Reset):
            self.resets += 1
            self.guilds, self.channels = {}, {}
        elif isinstance(message, sent_index.GuildChange):
            self.changes += 1
            return self._change(message)
        return []

    def _change(self, change: sent_index.GuildChange) -> list[pb.Channel]:
        if change.removed:
            self.guilds.pop(change.guild_id, None)
        if change.removed or change.replace:
            for key in [key for key, row in self.channels.items() if row.guild_id == str(change.guild_id)]:
                del self.channels[key]
        for key in change.removed_channels:
            self.channels.pop(key, None)
        if change.guild is not None:
            self.guilds[change.guild_id] = pb.Guild.FromString(change.guild)
        rows = list(pb.ListChannelsResponse.FromString(b"".join(change.channels)).channels)
        self.channels |= {int(row.channel_id): row for row in rows}
        return rows


def process(
    backend: fake_backend.FakeBackend,
    deps: Any = None,  # noqa: ANN401 -- ports, or stand-ins
    observe_lag: Callable[[float], None] = lambda _: None,
) -> watch_index.IndexWatcher:
    """Return the watcher of one process, with a cache of its own."""
    deps = deps or backend.deps

    def monotonic() -> float:
        return backend.clock.elapsed

    cache = read_cache.ReadCache(deps, backend.config, convert.encoded_channel, monotonic)
    return watch_index.IndexWatcher(
        deps,
        backend.config,
        cache,
        encode_guild=convert.watched_guild,
        monotonic=monotonic,
        observe_lag=observe_lag,
    )


def options(after: dict[int, bytes] | None = None, *, leave: str = "") -> watch_index.WatchOptions:
    """Return a stream's options."""
    return watch_index.WatchOptions(after, HEARTBEAT, lambda: leave)


@contextlib.asynccontextmanager
async def streaming(watcher: watch_index.IndexWatcher, after: dict[int, bytes] | None = None) -> AsyncIterator[Stream]:
    """Open a stream, and poll versions meanwhile as a process does."""
    poll = watcher.notifier.poll
    async with (
        concurrency.background_tasks(poll=lambda: concurrency.repeat_every(change_notifier.POLL_INTERVAL, poll)),
        contextlib.aclosing(watcher.watch(USER, options(after))) as stream,
    ):
        yield stream


async def until_bookmark(stream: Stream, client: Client) -> list[watch_index.Message]:
    """Take messages up to the next bookmark; returns them."""
    found = []
    async for step in stream:
        client.take(step)
        found.append(step[0])
        if isinstance(step[0], watch_index.Bookmark):
            return found
    raise AssertionError("the stream has ended")


async def take_all(stream: Stream, client: Client) -> None:
    """Take messages until the stream ends."""
    async for message in stream:
        client.take(message)


class Watched(reading.Scene):
    """A changing index whose changes have times, and processes that are told of most of them."""

    def __init__(self, backend: fake_backend.FakeBackend, seed: int) -> None:
        self.user_times: list[float] = []
        self.channel_times: dict[int, list[float]] = {key: [] for key in GUILDS}
        super().__init__(backend, seed)
        self.backend, self.dice = backend, random.Random(seed + 100)
        deps: Any = dataclasses.replace(backend.deps, users=self.users, guilds=self.guilds)
        self.processes = [process(backend, deps) for _ in range(2)]
        self.rows = 0
        self.resumed = 0

    def _tell(self, guild_ids: Sequence[int], user_ids: Sequence[int]) -> None:
        if self.dice.random() < 0.7:
            for each in self.processes:
                each.notifier.notify(guild_ids, user_ids)

    async def _note_user(self) -> None:
        await super()._note_user()
        self.user_times.append(self.backend.clock.elapsed)
        self._tell((), (USER,))

    async def list_channels(self, guild_id: int, rows: Sequence[model.Channel]) -> None:
        """Store a listing."""
        await super().list_channels(guild_id, rows)
        self.channel_times[guild_id].append(self.backend.clock.elapsed)
        self._tell((guild_id,), ())

    def visible_since(self, guild_id: int, since: float) -> set[int]:
        """Return the channels that any state since then shows."""
        users = self._user.since(max(0, bisect.bisect_right(self.user_times, since) - 1))
        first = max(0, bisect.bisect_right(self.channel_times[guild_id], since) - 1)
        return {
            row.channel_id
            for member in (state.memberships.get(guild_id) for state in users)
            for channels in self._channels[guild_id].since(first)
            for row in reading._in_sight(member, channels)
        }

    async def watch(self, client: Client, until: float) -> None:
        """Watch with a reader that is sometimes slow, over streams that break, each at a random process."""
        while self.backend.clock.elapsed < until:
            watcher = self.dice.choice(self.processes)
            self.resumed += client.position is not None
            breaks_at = min(until, self.backend.clock.elapsed + self.dice.expovariate(1 / 2.0))
            async with contextlib.aclosing(watcher.watch(USER, options(client.position))) as stream:
                await self._read(stream, client, breaks_at)

    async def _read(self, stream: Stream, client: Client, until: float) -> None:
        while (now := self.backend.clock.elapsed) < until:
            try:
                async with asyncio.timeout(until - now):
                    step = await anext(stream)
            except TimeoutError:
                return
            for row in client.take(step):
                self.rows += 1
                guild_id = int(row.guild_id)
                if int(row.channel_id) not in self.visible_since(guild_id, now - watch_index.READ_AGE):
                    self.wrong.append(reading.WrongPage(now, frozenset({int(row.channel_id)})))
            await asyncio.sleep(self.dice.choice([0.0, 0.0, self.dice.uniform(0.0, 1.0)]))


async def pages(backend: fake_backend.FakeBackend) -> tuple[dict[int, pb.Guild], dict[int, pb.Channel]]:
    """Return the rows of ListGuilds and ListChannels."""
    browser = browse.Browse(
        backend.deps,
        backend.config,
        encode_channel=convert.channel,
        encode_guild=lambda view: pb.Guild.FromString(convert.watched_guild(dataclasses.replace(view, rank=None))),
        monotonic=lambda: backend.clock.elapsed,
    )
    guilds = await browser.list_guilds(USER, after=None, size=200)
    channels = await browser.list_channels(USER, ALL, after=None, size=500)
    return {int(row.guild_id): row for row in guilds.rows}, {int(row.channel_id): row for row in channels.rows}


async def changing(seed: int) -> tuple[Watched, list[Client]]:
    """Run 4 watchers and 3 writers for 20 seconds, and wait until the watchers have caught up."""
    made = Watched(fake_backend.make(), seed)
    await made.prepare()
    clients = [Client() for _ in range(4)]
    until = made.backend.clock.elapsed + 20.0
    polls = {
        f"poll{number}": lambda each=each: concurrency.repeat_every(change_notifier.POLL_INTERVAL, each.notifier.poll)
        for number, each in enumerate(made.processes)
    }
    async with concurrency.background_tasks(**polls):
        await asyncio.gather(
            *(made.watch(client, until + QUIET) for client in clients), *(made.write(until) for _ in range(3))
        )
    return made, clients


@pytest.mark.parametrize("seed", range(6))
async def test_a_stream_never_shows_a_hidden_row_and_ends_as_the_pages_when_all_changes_at_random(seed: int) -> None:
    """Channels, roles and rights change; readers are slow; streams break and resume; announcements are lost."""
    made, clients = await changing(seed)

    assert made.wrong == []
    guilds, channels = await pages(made.backend)
    for client in clients:
        assert client.channels == channels
        assert client.guilds == guilds
    assert made.rows > 500
    assert made.resumed > 20


async def test_a_hidden_row_is_detected_when_streams_send_what_they_read_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Proves that the test above can fail."""
    allowed = watch_index.READ_AGE
    made = Watched(fake_backend.make(), 0)
    await made.prepare()
    monkeypatch.setattr(watch_index, "READ_AGE", 1e9)
    watcher, client = made.processes[0], Client()
    async with contextlib.aclosing(watcher.watch(USER, options())) as stream:
        messages = [await anext(stream), await anext(stream)]
        for guild_id in GUILDS:
            await made.list_channels(guild_id, [])
        await asyncio.sleep(allowed + 0.1)

        messages.append(await anext(stream))

    rows = [row for message in messages for row in client.take(message)]
    since = made.backend.clock.elapsed - allowed
    assert not made.visible_since(int(rows[-1].guild_id), since)


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in three guilds with a channel each, indexed."""
    made = fake_backend.make(roles_max_age=1000.0, roles_hard_age=1000.0, channels_hard_age=2000.0)
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await made.start_job()
    await made.run_all_turns()
    return made


async def store_channels(backend: fake_backend.FakeBackend, guild_id: int, rows: Sequence[model.Channel]) -> None:
    """Store a listing."""
    now = backend.clock()
    fence = await backend.guilds.acquire_lease(guild_id, now=now, until=now + 1, fetched_before=now + 1)
    assert fence is not None
    assert await stored.channels(backend.guilds, guild_id, fence=fence, channels=rows, now=now)


async def test_a_snapshot_is_a_reset_all_guilds_and_a_bookmark_when_a_stream_has_no_position(
    backend: fake_backend.FakeBackend,
) -> None:
    """Each guild whole, with the rows of ListGuilds and ListChannels."""
    client = Client()
    async with streaming(process(backend)) as stream:
        messages = await until_bookmark(stream, client)

    kinds = [type(message).__name__ for message in messages]
    assert kinds == ["Reset", "GuildChange", "GuildChange", "GuildChange", "Bookmark"]
    assert (client.guilds, client.channels) == await pages(backend)
    assert {row.name for row in client.channels.values()} == {"channel 11", "channel 21", "channel 31"}


async def test_only_the_difference_is_sent_when_a_channel_changes(backend: fake_backend.FakeBackend) -> None:
    """One row for a new name, one id for a removal; a change that shows nothing sends nothing."""
    watcher, client = process(backend), Client()
    await store_channels(backend, 10, [values.channel(11, 10), values.channel(12, 10)])
    async with streaming(watcher) as stream:
        await until_bookmark(stream, client)
        hidden = values.channel(13, 10, overwrites=[values.denied(10)])
        await store_channels(backend, 10, [values.channel(11, 10, name="new"), values.channel(12, 10)])
        watcher.notifier.notify([10], ())
        renamed, _ = await anext(stream)
        await store_channels(backend, 10, [values.channel(11, 10, name="new"), values.channel(12, 10), hidden])
        watcher.notifier.notify([10], ())
        nothing, _ = await anext(stream)
        await store_channels(backend, 10, [values.channel(12, 10)])
        watcher.notifier.notify([10], ())
        removed, _ = await anext(stream)

    assert isinstance(renamed, sent_index.GuildChange)
    assert (renamed.guild, renamed.replace, renamed.removed_channels) == (None, False, ())
    assert [row.name for row in client.take((renamed, None))] == ["new"]
    assert isinstance(nothing, watch_index.Bookmark)
    assert isinstance(removed, sent_index.GuildChange)
    assert (removed.channels, removed.removed_channels) == ((), (11,))
    assert removed.guild is not None
    assert pb.Guild.FromString(removed.guild).channel_count == 1


async def test_the_lag_is_counted_from_the_announcement_when_a_change_is_sent(
    backend: fake_backend.FakeBackend,
) -> None:
    """
    Of the oldest change that a message has; a snapshot, and a change that shows nothing, have none. Two reads of a
    stream are 0.1 s apart.
    """
    lags: list[float] = []
    watcher, client = process(backend, observe_lag=lags.append), Client()
    await store_channels(backend, 10, [values.channel(11, 10)])
    async with streaming(watcher) as stream:
        await until_bookmark(stream, client)
        await asyncio.sleep(1.0)
        watcher.notifier.notify([10], ())
        await until_bookmark(stream, client)
        at_first = list(lags)
        await store_channels(backend, 10, [values.channel(11, 10, name="new")])
        watcher.notifier.notify([10], (), 0.75)
        watcher.notifier.notify([10], (), 0.25)
        await anext(stream)

    assert at_first == []
    assert lags == [pytest.approx(0.75 + 0.1)]


async def test_the_lag_is_counted_when_the_user_has_changed_and_no_guild_has(
    backend: fake_backend.FakeBackend,
) -> None:
    """As after role ids are fetched: the guilds that this concerns are known only when the user is read again."""
    lags: list[float] = []
    watcher, client = process(backend, observe_lag=lags.append), Client()
    role_channel = values.channel(12, 10, overwrites=[values.denied(10), values.allowed(5)])
    await store_channels(backend, 10, [values.channel(11, 10), role_channel])
    async with streaming(watcher) as stream:
        await until_bookmark(stream, client)
        hidden = 12 not in client.channels
        await stored.roles(backend.users, USER, 10, (5,), backend.clock())
        watcher.notifier.notify((), [USER], 0.75)
        client.take(await anext(stream))

    assert hidden
    assert 12 in client.channels
    assert lags == [pytest.approx(0.75 + 0.1, abs=0.02)]


async def test_a_channel_is_removed_when_only_the_age_of_the_roles_takes_it_away(
    backend: fake_backend.FakeBackend,
) -> None:
    """At that moment, although nothing is stored: what depends on a role is hidden, the rest stays."""
    role_channel = values.channel(12, 10, overwrites=[values.denied(10), values.allowed(5)])
    await store_channels(backend, 10, [values.channel(11, 10), role_channel])
    await stored.roles(backend.users, USER, 10, (5,), backend.clock())
    asked_at, client = backend.clock.elapsed, Client()
    await asyncio.sleep(100.0)
    await stored.guild_list(backend.users, USER, backend.discord.lists[USER], backend.clock())
    async with streaming(process(backend)) as stream:
        await until_bookmark(stream, client)
        before = set(client.channels)
        while 12 in client.channels:
            client.take(await anext(stream))
        removed_at = backend.clock.elapsed

    assert before == {11, 12, 21, 31}
    assert set(client.channels) == {11, 21, 31}
    assert client.guilds[10].reason == "ROLES_UNKNOWN"
    assert 1000.0 <= removed_at - asked_at <= 1000.2


async def test_everything_is_removed_and_the_stream_fails_when_the_user_is_erased(
    backend: fake_backend.FakeBackend,
) -> None:
    """The poll finds it: an erasure is not announced."""
    client = Client()
    async with streaming(process(backend)) as stream:
        await until_bookmark(stream, client)
        backend.users.forget(USER)
        with pytest.raises(errors.UserNotFound):
            await take_all(stream, client)

    assert (client.guilds, client.channels) == ({}, {})


async def test_nothing_is_sent_again_when_a_stream_resumes_at_another_process(
    backend: fake_backend.FakeBackend,
) -> None:
    """Only guilds that differ, whole; a guild that was left is removed."""
    client = Client()
    async with streaming(process(backend)) as stream:
        await until_bookmark(stream, client)
    await store_channels(backend, 20, [values.channel(22, 20)])
    await stored.guild_list(backend.users, USER, [values.user_guild(10), values.user_guild(20)], backend.clock() + 1.0)

    async with streaming(process(backend), client.position) as stream:
        messages = await until_bookmark(stream, client)

    changes = [message for message in messages if isinstance(message, sent_index.GuildChange)]
    assert {change.guild_id: (change.replace, change.removed) for change in changes} == {
        20: (True, False),
        30: (False, True),
    }
    assert len(messages) == 3
    assert (client.guilds, client.channels) == await pages(backend)


async def test_a_large_guild_comes_in_parts_when_it_does_not_fit_one_message(
    backend: fake_backend.FakeBackend,
) -> None:
    """Each below the bound, the first one replaces; a stream that breaks in between gets it whole again."""
    topic = "ü" * 1024
    await store_channels(backend, 10, [values.channel(100 + number, 10, topic=topic) for number in range(500)])
    client, watcher = Client(), process(backend)
    async with streaming(watcher) as stream:
        messages = await until_bookmark(stream, client)
    parts = [message for message in messages if isinstance(message, sent_index.GuildChange) and message.guild_id == 10]

    assert [part.replace for part in parts] == [True, False, False]
    assert [part.guild is not None for part in parts] == [True, False, False]
    assert max(sum(map(len, part.channels)) for part in parts) <= sent_index.MESSAGE_BYTES
    assert len(client.channels) == 502
    broken = Client()
    async with contextlib.aclosing(watcher.watch(USER, options({}, leave="DRAINING"))) as stream:
        await take_all(stream, broken)
    assert broken.position is not None
    async with streaming(watcher, broken.position) as stream:
        await until_bookmark(stream, broken)
    assert broken.channels == client.channels


async def test_changes_are_merged_when_the_reader_is_slow(backend: fake_backend.FakeBackend) -> None:
    """A reader that takes a message after 100 changes gets one, with the latest state."""
    watcher, client = process(backend), Client()
    async with streaming(watcher) as stream:
        await until_bookmark(stream, client)
        for number in range(100):
            await store_channels(backend, 10, [values.channel(11, 10, name=f"name {number}")])
            watcher.notifier.notify([10], ())
            await asyncio.sleep(0.01)
        before = client.changes
        await until_bookmark(stream, client)

    assert client.changes - before == 1
    assert client.channels[11].name == "name 99"


async def test_a_stream_says_goodbye_with_its_position_when_the_process_leaves(
    backend: fake_backend.FakeBackend,
) -> None:
    """At once, also while it waits."""
    watcher, client, leave = process(backend), Client(), [""]
    wanted = watch_index.WatchOptions(None, HEARTBEAT, lambda: leave[0])
    async with contextlib.aclosing(watcher.watch(USER, wanted)) as stream:
        await until_bookmark(stream, client)
        last = asyncio.create_task(anext(stream))
        await asyncio.sleep(1.0)
        leave[0] = "DRAINING"
        began = backend.clock.elapsed
        watcher.notifier.wake_all()
        step = await last
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    assert step == (watch_index.Disconnecting("DRAINING"), client.position)
    assert backend.clock.elapsed - began <= watch_index.PACE


async def test_a_stream_refreshes_its_guilds_when_it_opens() -> None:
    """It is one view: guilds with channels are viewed, and those that are old are read again soon."""
    backend = fake_backend.make()
    await backend.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await backend.start_job()
    await backend.run_all_turns()
    await store_channels(backend, 10, [values.channel(11, 10)])
    await asyncio.sleep(700.0)
    watcher = process(backend)
    async with streaming(watcher) as stream:
        await until_bookmark(stream, Client())
    await watcher._cache.views.flush()

    rows = await backend.guilds.get(GUILDS)
    assert {row.last_viewed_at for row in rows.values()} == {backend.clock()}
    assert [key for key, row in rows.items() if row.schedule.next_at == backend.clock()] == [10]


async def test_an_unknown_user_is_refused_when_a_stream_opens() -> None:
    """Before anything is sent."""
    backend = fake_backend.make()
    with pytest.raises(errors.UserNotFound):
        await anext(process(backend).watch(USER, options()))


async def test_a_guild_says_why_it_is_old_when_its_fetches_fail(backend: fake_backend.FakeBackend) -> None:
    """At the moment at which it is too old to count as fresh."""
    client, asked_at = Client(), backend.clock()
    fence = await backend.guilds.acquire_lease(10, now=asked_at, until=asked_at + 9, fetched_before=asked_at + 9)
    assert fence is not None
    await backend.guilds.release_lease(10, fence=fence, schedule=model.Schedule(failures=1))
    async with streaming(process(backend)) as stream:
        await until_bookmark(stream, client)
        before = client.guilds[10].reason
        while not client.guilds[10].reason:
            client.take(await anext(stream))

    assert before == ""
    assert client.guilds[10].reason == "GUILD_UNAVAILABLE"
    assert 600.0 <= backend.clock() - asked_at <= 600.2
