"""Several gateway processes, and one whose session loses joins, removals and members' events."""

import collections
import contextlib
from collections.abc import AsyncIterator

import pytest

from indexing.domain import model
from indexing.store import credentials, users
from indexing.store import database as store_database
from tests import clockwork, gateway_world, values
from tests.contract import conftest

SHARDS = 4


@pytest.fixture
async def world(
    database: store_database.Database, set_environment: conftest.SetEnvironment
) -> AsyncIterator[gateway_world.World]:
    """A simulated Discord with six guilds in four shards that grants GUILD_MEMBERS, and the product's environment."""
    changes = {"--gateway-shards": f"{SHARDS}", "--gateway-concurrency": f"{SHARDS}"}
    async with gateway_world.simulated(database, changes, flags=["--gateway-members"]) as found:
        set_environment(found, GATEWAY_MEMBERS="1")
        yield found


async def owned(world: gateway_world.World) -> list[int]:
    """Return how many shards each owner has, in ascending order."""
    now = world.simulator.clock.wall()
    owners = [shard.owner for shard in (await world.shards()).values() if shard.lease_until > now]
    return sorted(collections.Counter(owners).values())


async def test_shards_are_shared_when_another_process_starts(
    world: gateway_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first leaves half of its shards, and the second resumes them; one that ends leaves the rest to the other."""
    monkeypatch.setattr("indexing.gateway.fleet.BALANCE_EVERY", 0.5)

    async def is_shared() -> bool:
        return await owned(world) == [SHARDS // 2, SHARDS // 2]

    async def is_alone() -> bool:
        return await owned(world) == [SHARDS]

    async with gateway_world.gateway_process(world):
        await world.all_fed(30.0)
        async with gateway_world.gateway_process(world):
            await gateway_world.until(is_shared, 15.0)
            await gateway_world.until(world.connected, 15.0)
        await gateway_world.until(is_alone, 15.0)
        await gateway_world.until(world.connected, 15.0)

    assert world.hub.counts["identifies"] == SHARDS
    assert world.hub.violations == {}


async def test_a_process_keeps_its_shards_when_it_is_alone(
    world: gateway_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left when nobody else is there to take it."""
    monkeypatch.setattr("indexing.gateway.fleet.BALANCE_EVERY", 0.1)
    async with gateway_world.gateway_process(world):
        await world.all_fed(30.0)
        with contextlib.suppress(TimeoutError):
            await gateway_world.until(lambda: _is_not(world, [SHARDS]), 2.5)

        assert await owned(world) == [SHARDS]

    assert world.hub.counts["resumes"] == 0


async def _is_not(world: gateway_world.World, shares: list[int]) -> bool:
    return await owned(world) != shares


async def test_a_lost_removal_is_found_when_the_bots_list_is_compared(
    world: gateway_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guild that is fed but not listed ends the session of its shard alone; nothing of the guild is shown."""
    monkeypatch.setenv("GATEWAY_LIST_INTERVAL", "0.5")
    removed = world.guild_ids[0]
    async with gateway_world.gateway_process(world):
        await world.all_fed(30.0)
        world.fault(kind="deaf")
        world.change(op="change_guild", guild=str(removed), bot=False)

        async def is_hidden() -> bool:
            guild = (await world.guilds.get([removed]))[removed]
            return guild.access is model.Access.NOT_INSTALLED and guild.fed_by == ""

        await gateway_world.until(is_hidden, 20.0)
        await gateway_world.until(world.connected, 20.0)

    assert world.hub.counts["sessions_closed_by_client"] == 1
    assert world.hub.counts["identifies"] == SHARDS + 1


async def test_role_ids_follow_the_members_when_their_events_are_granted(
    world: gateway_world.World, database: store_database.Database
) -> None:
    """A known user's roles change within a second, also at once with others; who leaves has no membership any more."""
    store = users.Users(database, credentials.Vault((conftest.KEY,)))
    user, (first, second, *_) = world.simulator.world.user_ids[0], world.guild_ids
    guild = world.simulator.world.guild(first)
    assert guild is not None
    roles = sorted(role.id for role in guild.roles if role.id != first and not role.bot)[:2]

    async def is_stored(expected: dict[int, tuple[int, ...] | None]) -> bool:
        found = await store.load(user)
        return found is not None and {key: one.role_ids for key, one in found.memberships.items()} == expected

    async with gateway_world.gateway_process(world):
        await world.all_fed(30.0)
        await store.put_credential(user, values.credential())
        known = await store.load(user)
        assert known is not None
        await store.replace_guild_list(known, [values.user_guild(first), values.user_guild(second)], clockwork.START)
        for held in (roles, roles[:1]):
            world.change(op="change_member", guild=str(first), user=str(user), roles=list(map(str, held)))
        await gateway_world.until(lambda: is_stored({first: tuple(roles[:1]), second: None}), 5.0)
        world.change(op="change_member", guild=str(second), user=str(user), joined=False)
        await gateway_world.until(lambda: is_stored({first: tuple(roles[:1])}), 5.0)

    assert world.hub.violations == {}
