"""Announcements of changes over a real server: who is told of what."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any

import pytest
import redis.asyncio

from indexing import concurrency
from indexing.domain import id_sets, model
from indexing.messaging import changes
from indexing.store import credentials, database, guilds, users
from tests import stored, values

SOON = 20.0
NOW = 3_500_000_000.0


class Heard:
    """What a process was told."""

    def __init__(self) -> None:
        self.guild_ids: set[int] = set()
        self.user_ids: set[int] = set()
        self._changed = asyncio.Event()

    def listen(self, guild_ids: Collection[int], user_ids: Collection[int], _: bytes = b"") -> None:
        """Note an announcement."""
        self.guild_ids |= set(guild_ids)
        self.user_ids |= set(user_ids)
        self._changed.set()

    async def until_relaying(self, announcer: changes.RedisChanges) -> None:
        """Announce until it arrives: what was announced before a process reads is not for it."""
        async with asyncio.timeout(SOON):
            while not self.guild_ids:
                announcer.announce_guilds([1])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self._changed.wait()

    async def until(self, guild_ids: set[int], user_ids: set[int]) -> None:
        """Wait until these were announced."""
        async with asyncio.timeout(SOON):
            while not (guild_ids <= self.guild_ids and user_ids <= self.user_ids):
                self._changed.clear()
                await self._changed.wait()


async def test_every_process_is_told_when_one_announces_changes(redis_client: redis.asyncio.Redis) -> None:
    """In one message for all of some milliseconds; also the process that announces."""
    here, elsewhere = changes.RedisChanges(redis_client), changes.RedisChanges(redis_client)
    heard, own = Heard(), Heard()
    async with concurrency.background_tasks(
        elsewhere=lambda: elsewhere.relay(heard.listen), here=lambda: here.relay(own.listen)
    ):
        await heard.until_relaying(here)
        await own.until_relaying(here)
        here.announce_guilds([2, 3])
        here.announce_users([1 << 62])
        await heard.until({1, 2, 3}, {1 << 62})
        await own.until({1, 2, 3}, {1 << 62})

    entries: Any = await redis_client.xrange(changes.KEY)
    with_user = [list(id_sets.unpack_ids(fields[b"g"]))[-2:] for _, fields in entries if fields[b"u"]]
    assert with_user == [[2, 3]]
    assert 0 < await redis_client.ttl(changes.KEY) <= changes.TTL
    await here.close()
    await elsewhere.close()


async def test_what_waits_is_announced_when_a_process_closes(redis_client: redis.asyncio.Redis) -> None:
    """A worker that stores something and ends at once."""
    made = changes.RedisChanges(redis_client)
    made.announce_guilds([7])
    await made.close()

    assert await redis_client.xlen(changes.KEY) == 1


async def test_relaying_goes_on_when_an_entry_cannot_be_read(redis_client: redis.asyncio.Redis) -> None:
    """One of another release, or damaged."""
    made, heard = changes.RedisChanges(redis_client), Heard()
    await redis_client.xadd(changes.KEY, {"g": b"", "u": b""})
    async with concurrency.background_tasks(relay=lambda: made.relay(heard.listen)):
        while not heard.guild_ids:
            await redis_client.xadd(changes.KEY, {"x": "y"})
            await redis_client.xadd(changes.KEY, {"g": b"123"})
            made.announce_guilds([5])
            await asyncio.sleep(0.01)

    assert heard.guild_ids == {5}
    await made.close()


@pytest.fixture
def announced() -> list[int]:
    """Ids of guilds and users, as they are announced."""
    return []


async def test_each_write_is_announced_when_it_makes_a_version_of_a_guild(
    empty: database.Database, announced: list[int]
) -> None:
    """A list with a new name, a listing, a refusal, a removed bot; not a lease, a view or an unchanged list."""
    store = guilds.Guilds(empty, announce=announced.extend)

    async def told() -> list[int]:
        found = sorted(set(announced))
        announced.clear()
        return found

    await store.upsert_guilds([values.user_guild(10), values.user_guild(20)], {10, 20})
    seen = {"new": await told()}
    await store.upsert_guilds([values.user_guild(10), values.user_guild(20, name="other")], {10, 20})
    seen["renamed"] = await told()
    await store.mark_viewed([10], NOW)
    fence = await store.acquire_lease(10, now=NOW, until=NOW + 9, fetched_before=NOW)
    seen["lease"] = await told()
    assert fence is not None
    assert await stored.channels(store, 10, fence=fence, channels=[values.channel(11, 10)], now=NOW)
    seen["listing"] = await told()
    assert not await stored.channels(store, 10, fence=fence - 1, channels=[], now=NOW)
    seen["lost lease"] = await told()
    fence = await store.acquire_lease(10, now=NOW + 10, until=NOW + 19, fetched_before=NOW + 10)
    assert fence is not None
    await store.mark_refused(10, fence=fence, error="NO_ACCESS", now=NOW, retry_at=NOW + 99)
    seen["refused"] = await told()
    await store.mark_bot_removed([10], NOW)
    seen["removed"] = await told()

    assert seen == {
        "new": [10, 20],
        "renamed": [20],
        "lease": [],
        "listing": [10],
        "lost lease": [],
        "refused": [10],
        "removed": [10],
    }


async def test_each_write_is_announced_when_it_makes_a_version_of_a_user(
    empty: database.Database, announced: list[int]
) -> None:
    """A list, roles, a guild that was left, preferences, and the end of the consent."""
    safe = credentials.Vault((b"k" * 32,))
    store = users.Users(empty, safe, announce=announced.extend)
    pairs = credentials.Credentials(empty, safe, announce=announced.extend)

    async def told() -> bool:
        found = announced == [values.USER]
        announced.clear()
        return found

    await store.put_credential(values.USER, values.credential())
    seen = {"credential": await told()}
    await store.put_preferences(values.USER, model.Preferences(pinned=(10,)))
    seen["preferences"] = await told()
    assert await stored.guild_list(store, values.USER, [values.user_guild(10)], NOW)
    seen["list"] = await told()
    assert await stored.roles(store, values.USER, 10, (5,), NOW)
    seen["roles"] = await told()
    assert await stored.left(store, values.USER, 10)
    seen["left"] = await told()
    kept = await pairs.get(values.USER)
    assert await pairs.mark_refused(values.USER, version=kept.version, shown_until=NOW)
    seen["refused"] = await told()
    await pairs.delete(values.USER, shown_until=NOW)
    seen["revoked"] = await told()

    assert seen == dict.fromkeys(seen, True)
