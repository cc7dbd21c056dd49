"""The simulated world."""

import dataclasses

import hypothesis
from hypothesis import strategies

from devstack.simulator import channels, payloads, permissions, snowflakes, world

DEMO = world.WorldSpec()


def everything(simulated: world.World, guild_ids: list[int]) -> dict[int, object]:
    """Return the content of guilds with all their channels."""
    written: dict[int, object] = {}
    for guild_id in guild_ids:
        guild = simulated.guild(guild_id)
        assert guild is not None
        shown = [payloads.channel(channel, guild_id) for channel in simulated.channels_of(guild)]
        written[guild_id] = (dataclasses.asdict(guild), shown)
    return written


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(strategies.integers(0, 10**9), strategies.integers(1, 4), strategies.integers(1, 6))
def test_worlds_are_equal_when_their_specs_are(seed: int, users: int, guilds_per_user: int) -> None:
    """Equal specs give equal worlds, in any order of access."""
    shape = world.WorldSpec(seed=seed, users=users, guilds_per_user=guilds_per_user)
    one, other = world.World(shape), world.World(shape)
    guild_ids = one.guilds_of(one.user_ids[-1])

    forward = everything(one, guild_ids)
    backward = everything(other, guild_ids[::-1])

    assert forward == backward
    assert one.user_ids == other.user_ids


def test_worlds_differ_when_their_seeds_do() -> None:
    """Another seed gives other users and guilds."""
    one, other = world.World(DEMO), world.World(dataclasses.replace(DEMO, seed=2))

    assert set(one.user_ids).isdisjoint(other.user_ids)
    assert set(one.bot_guilds()).isdisjoint(other.bot_guilds())


def test_the_default_world_has_the_documented_size() -> None:
    """The first user has exactly 60 guilds; those with the bot have about 1,500 channels, a few of them many."""
    simulated = world.World(DEMO)

    guild_ids = simulated.guilds_of(simulated.user_ids[0])
    found = [guild for guild in map(simulated.guild, guild_ids) if guild is not None]
    sizes = sorted(len(simulated.channels_of(guild)) for guild in found if guild.has_bot)

    assert len(guild_ids) == 60
    assert 44 <= len(sizes) <= 49
    assert 1_350 <= sum(sizes) <= 1_650
    assert sizes[0] >= 5
    assert sizes[-1] > 4 * sizes[len(sizes) // 2]


def test_guilds_are_shared_when_there_are_many_users() -> None:
    """Each user is in exactly as many guilds as configured, and many users share popular guilds."""
    simulated = world.World(world.WorldSpec(users=200, guilds_per_user=20))

    joined = [set(simulated.guilds_of(user_id)) for user_id in simulated.user_ids]
    popular = max(sum(guild_id in mine for mine in joined) for guild_id in joined[0])

    assert {len(mine) for mine in joined} == {20}
    assert popular > 20


def test_no_guild_is_shared_when_sharing_is_off() -> None:
    """Each user is in guilds that no other user is in, whatever the number of guilds."""
    simulated = world.World(world.WorldSpec(users=5, guilds_per_user=20, guilds=30, no_sharing=True))

    joined = [set(simulated.guilds_of(user_id)) for user_id in simulated.user_ids]

    assert {len(mine) for mine in joined} == {20}
    assert len(set().union(*joined)) == 100


def test_channels_are_of_every_kind_when_the_world_is_large_enough() -> None:
    """All channel types, an unknown one, private channels, member overwrites and unusual names occur."""
    simulated = world.World(DEMO)
    made = [
        channel
        for guild in map(simulated.guild, simulated.guilds_of(simulated.user_ids[0]))
        if guild is not None
        for channel in simulated.channels_of(guild)
    ]

    kinds = {channel.type for channel in made}
    overwritten = {overwrite.kind for channel in made for overwrite in channel.overwrites}

    assert kinds == {0, 2, 4, 5, 13, 15, 16, channels.FUTURE}
    assert overwritten == {permissions.ROLE, permissions.MEMBER}
    assert any(not channel.name.isascii() for channel in made)
    assert any(not channel.name.isprintable() for channel in made)
    assert all(1 <= len(channel.name) <= 100 for channel in made)


def test_references_between_channels_are_consistent() -> None:
    """Channel ids are unique in a guild, parents are its categories, no message is in the future."""
    simulated = world.World(DEMO)

    for guild in map(simulated.guild, simulated.guilds_of(simulated.user_ids[0])):
        assert guild is not None
        made = simulated.channels_of(guild)
        categories = {channel.id for channel in made if channel.type == channels.CATEGORY}

        assert len({channel.id for channel in made}) == len(made) == guild.channel_count
        assert {channel.parent_id for channel in made} <= categories | {None}
        messages = [channel.last_message_id for channel in made if channel.last_message_id is not None]
        assert all(snowflakes.created_ms(message) <= DEMO.now_ms for message in messages)


def test_activity_ranges_from_minutes_to_years_ago() -> None:
    """The newest message of a channel is less than an hour or more than a year old."""
    simulated = world.World(DEMO)
    ages = [
        DEMO.now_ms - snowflakes.created_ms(channel.last_message_id)
        for guild in map(simulated.guild, simulated.guilds_of(simulated.user_ids[0]))
        if guild is not None
        for channel in simulated.channels_of(guild)
        if channel.last_message_id is not None
    ]

    assert min(ages) < 3_600_000
    assert max(ages) > 365 * 86_400_000


def test_an_evicted_guild_is_rebuilt_identically() -> None:
    """An evicted guild is rebuilt identically."""
    simulated = world.World(world.WorldSpec(users=1, guilds_per_user=3))
    guild = simulated.guild(simulated.guilds_of(simulated.user_ids[0])[0])
    assert guild is not None
    before = simulated.channels_of(guild)

    simulated._channels.drop(guild.id)

    assert simulated.channels_of(guild) == before
    assert simulated.channels_of(guild) is not before
