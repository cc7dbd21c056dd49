"""A gateway process against the simulated Gateway and real servers: what is stored equals the world."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from indexing import concurrency, errors, settings
from indexing.messaging import role_requests
from indexing.store import database as store_database
from tests import gateway_drill, gateway_world
from tests.contract import conftest


@pytest.fixture
async def world(
    database: store_database.Database, set_environment: conftest.SetEnvironment
) -> AsyncIterator[gateway_world.World]:
    """A simulated Discord with six guilds, and the product's environment."""
    async with gateway_world.simulated(database) as found:
        set_environment(found)
        yield found


async def test_every_guild_is_fed_when_a_process_starts(world: gateway_world.World) -> None:
    """All guilds with all their channels, without a call for any of them."""
    async with gateway_world.gateway_process(world):
        await world.all_fed()
        await world.settled()

    assert world.simulator.stats.by.keys() <= {("GET /gateway/bot", "bot", 200)}
    assert world.hub.violations == {}


async def test_changes_are_stored_when_they_are_told(world: gateway_world.World) -> None:
    """Channels, names, roles and the bot's membership follow the world."""
    async with gateway_world.gateway_process(world):
        await world.all_fed()
        first, second, third, *_ = world.guild_ids
        made = world.change(op="add_channel", guild=str(first), name="new")["channel"]
        world.change(op="change_channel", guild=str(first), channel=made, name="newer")
        world.change(op="remove_channel", guild=str(second), channel=str(min(world.truth(second))))
        world.change(op="change_role", guild=str(third), role=str(third), permissions="0")
        await world.settled()
        world.change(op="change_guild", guild=str(second), bot=False)
        await world.settled()

    assert (await world.guilds.get([second]))[second].access.value == "NOT_INSTALLED"


async def test_the_session_is_resumed_when_a_process_is_replaced(world: gateway_world.World) -> None:
    """A deploy identifies nothing, and misses nothing of what changes meanwhile."""
    async with gateway_world.gateway_process(world):
        await world.all_fed()
    world.change(op="add_channel", guild=str(world.guild_ids[0]), name="while nobody listens")
    async with gateway_world.gateway_process(world):
        await world.settled()

    assert (world.hub.counts["identifies"], world.hub.counts["resumes"]) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "identifies"),
    [
        ({"kind": "drop"}, 1),
        ({"kind": "reconnect"}, 1),
        ({"kind": "close", "code": 4000}, 1),
        ({"kind": "close", "code": 4009}, 2),
        ({"kind": "expire"}, 2),
    ],
)
async def test_nothing_is_missed_when_the_connection_ends(
    world: gateway_world.World, fault: dict[str, object], identifies: int
) -> None:
    """A session that lives is resumed; one that is gone is identified again."""
    async with gateway_world.gateway_process(world):
        await world.all_fed()
        world.fault(**fault)
        world.change(op="add_channel", guild=str(world.guild_ids[0]), name="meanwhile")
        await world.settled()
        await world.all_fed()

    assert world.hub.counts["identifies"] == identifies
    assert world.hub.violations == {}


async def test_no_guild_is_fed_when_the_session_ends_and_no_other_begins(world: gateway_world.World) -> None:
    """One write takes it from all of them; each keeps the moment up to which it was proven."""
    async with gateway_world.gateway_process(world):
        await world.all_fed()
        world.simulator.tokens.change_bot("another")
        world.fault(kind="expire")
        await world.none_fed()

    (shard,) = (await world.shards()).values()
    ages = {guild.fetched_at for guild in (await world.guilds.get(world.guild_ids)).values()}
    assert shard.session == ""
    assert len(ages) == 1


async def test_no_claim_is_wrong_when_processes_are_cut_killed_and_stopped(
    redis_settings: settings.RedisSettings, mongodb_url: str
) -> None:
    """Ten faults in a changing world; everything stored equals it afterwards, and no identify is wasted."""
    found = await gateway_drill.play(
        redis_settings.url.get_secret_value(), mongodb_url, faults=10, seed=3, guilds=10, processes=2
    )

    assert (found["wrong"], found["violations"]) == (0, {})
    assert found["claims"] > 0
    assert found["equal_after"] >= 0
    assert found["identifies"] == found["identifies_expected"]


async def test_a_deaf_session_is_found_when_guilds_are_audited(
    world: gateway_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats are answered and events are not sent: a difference from the HTTP API ends the session."""
    monkeypatch.setenv("GATEWAY_AUDIT_INTERVAL", "0.1")
    monkeypatch.setenv("GATEWAY_AUDIT_WAIT", "0.2")
    async with gateway_world.gateway_process(world):
        await world.all_fed()
        world.fault(kind="deaf")
        world.change(op="add_channel", guild=str(world.guild_ids[0]), name="not told")
        await world.settled(30.0)
        await world.all_fed()

    assert world.hub.counts["events_lost"] == 1
    assert world.hub.counts["sessions_closed_by_client"] == 1


async def test_a_deaf_session_is_believed_when_nothing_is_audited(world: gateway_world.World) -> None:
    """Nothing else can find it: the control of the test above."""
    async with gateway_world.gateway_process(world):
        await world.all_fed()
        world.fault(kind="deaf")
        world.change(op="add_channel", guild=str(world.guild_ids[0]), name="not told")

        with pytest.raises(TimeoutError):
            await world.settled(4.0)


async def test_a_guild_is_by_rest_when_it_has_an_outage_or_no_guild_create(world: gateway_world.World) -> None:
    """The others stay fed; the guild is fed again with its GUILD_CREATE."""
    first, second, *_ = world.guild_ids
    world.fault(kind="without_create", guild=str(first))
    async with gateway_world.gateway_process(world):
        await gateway_world.until(lambda: world.feeds(len(world.guild_ids) - 1), 10.0)
        world.fault(kind="outage", guild=str(second))
        await gateway_world.until(lambda: world.feeds(len(world.guild_ids) - 2), 10.0)
        world.fault(kind="outage_ends", guild=str(second))
        await gateway_world.until(lambda: world.feeds(len(world.guild_ids) - 1), 10.0)

    assert first not in await world.guilds.get([first])


async def test_channels_are_hidden_when_our_bot_loses_sight_of_them_silently(world: gateway_world.World) -> None:
    """A role's lost permission hides channels at once, and a restored one shows them when Discord sends them."""
    async with gateway_world.gateway_process(world):
        await world.all_fed()
        for guild_id in world.guild_ids:
            guild = world.simulator.world.guild(guild_id)
            assert guild is not None
            for role in guild.roles[:2]:
                bits = role.permissions
                world.change(op="change_role", guild=str(guild_id), role=str(role.id), permissions="0")
                await world.settled()
                world.change(op="change_role", guild=str(guild_id), role=str(role.id), permissions=str(bits))
                await world.settled()


async def test_roles_are_answered_over_the_gateway_when_they_are_asked_for(
    world: gateway_world.World, redis_client: redis.asyncio.Redis
) -> None:
    """A member has role ids, another user is gone; without a process there is no answer."""
    asker = role_requests.RoleAsker(redis_client, wait=3.0)
    user, guild_id = world.simulator.world.user_ids[0], world.guild_ids[0]
    async with concurrency.background_tasks(answers=asker.relay_answers):
        async with gateway_world.gateway_process(world):
            await world.all_fed()
            roles = await asker.fetch("0/1", guild_id, user)
            with pytest.raises(errors.Gone):
                await asker.fetch("0/1", guild_id, 42)
        unanswered = await role_requests.RoleAsker(redis_client, wait=0.2).fetch("0/1", guild_id, user)
    await asker.close()

    guild = world.simulator.world.guild(guild_id)
    assert guild is not None
    member = world.simulator.world.member(user, guild)
    assert member is not None
    assert set(roles or ()) == member.roles
    assert unanswered is None
