"""The world that is played."""

import dataclasses

import hypothesis
from hypothesis import strategies

from devstack.simulator import channels, payloads, permissions, snowflakes, world

DEMO = world.WorldSpec()


def everything(played: world.World, guild_ids: list[int]) -> dict[int, object]:
    """Write down guilds with all their channels."""
    written: dict[int, object] = {}
    for guild_id in guild_ids:
        guild = played.guild(guild_id)
        assert guild is not None
        shown = [payloads.channel(channel, guild_id) for channel in played.channels_of(guild)]
        written[guild_id] = (dataclasses.asdict(guild), shown)
    return written


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(strategies.integers(0, 10**9), strategies.integers(1, 4), strategies.integers(1, 6))
def test_worlds_are_equal_when_their_shapes_are(seed: int, users: int, guilds_per_user: int) -> None:
    """Equal shapes make equal worlds, in whatever order they are looked at."""
    shape = world.WorldSpec(seed=seed, users=users, guilds_per_user=guilds_per_user)
    one, other = world.World(shape), world.World(shape)
    guild_ids = one.guilds_of(one.user_ids[-1])

    forward = everything(one, guild_ids)
    backward = everything(other, guild_ids[::-1])

    assert forward == backward
    assert one.user_ids == other.user_ids


def test_worlds_differ_when_their_seeds_do() -> None:
    """Another seed makes other users and guilds."""
    one, other = world.World(DEMO), world.World(dataclasses.replace(DEMO, seed=2))

    assert set(one.user_ids).isdisjoint(other.user_ids)
    assert set(one.bot_guilds()).isdisjoint(other.bot_guilds())


def test_the_demo_is_as_promised_when_nothing_is_chosen() -> None:
    """The first user has exactly 60 guilds; those with our bot have about 1,500 channels, a few of them many."""
    played = world.World(DEMO)

    guild_ids = played.guilds_of(played.user_ids[0])
    found = [guild for guild in map(played.guild, guild_ids) if guild is not None]
    sizes = sorted(len(played.channels_of(guild)) for guild in found if guild.has_bot)

    assert len(guild_ids) == 60
    assert 44 <= len(sizes) <= 49
    assert 1_350 <= sum(sizes) <= 1_650
    assert sizes[0] >= 5
    assert sizes[-1] > 4 * sizes[len(sizes) // 2]


def test_guilds_are_shared_when_there_are_many_users() -> None:
    """Each user is in exactly as many guilds as asked for, and popular guilds are in many users' lists."""
    played = world.World(world.WorldSpec(users=200, guilds_per_user=20))

    joined = [set(played.guilds_of(user_id)) for user_id in played.user_ids]
    popular = max(sum(guild_id in mine for mine in joined) for guild_id in joined[0])

    assert {len(mine) for mine in joined} == {20}
    assert popular > 20


def test_channels_are_of_every_kind_when_the_world_is_large_enough() -> None:
    """All guild channel types, an unknown one, private channels, member overwrites and odd names occur."""
    played = world.World(DEMO)
    made = [
        channel
        for guild in map(played.guild, played.guilds_of(played.user_ids[0]))
        if guild is not None
        for channel in played.channels_of(guild)
    ]

    kinds = {channel.type for channel in made}
    overwritten = {overwrite.kind for channel in made for overwrite in channel.overwrites}

    assert kinds == {0, 2, 4, 5, 13, 15, 16, channels.FUTURE}
    assert overwritten == {permissions.ROLE, permissions.MEMBER}
    assert any(not channel.name.isascii() for channel in made)
    assert any(not channel.name.isprintable() for channel in made)
    assert all(1 <= len(channel.name) <= 100 for channel in made)


def test_ids_agree_when_channels_refer_to_each_other() -> None:
    """Channel ids are unique in a guild, parents are categories of it, messages are not from the future."""
    played = world.World(DEMO)

    for guild in map(played.guild, played.guilds_of(played.user_ids[0])):
        assert guild is not None
        made = played.channels_of(guild)
        categories = {channel.id for channel in made if channel.type == channels.CATEGORY}

        assert len({channel.id for channel in made}) == len(made) == guild.channel_count
        assert {channel.parent_id for channel in made} <= categories | {None}
        messages = [channel.last_message_id for channel in made if channel.last_message_id is not None]
        assert all(snowflakes.created_ms(message) <= DEMO.now_ms for message in messages)


def test_activity_reaches_from_now_to_years_ago_when_guilds_are_compared() -> None:
    """Some channels were written in within the last hour, some not for a year."""
    played = world.World(DEMO)
    ages = [
        DEMO.now_ms - snowflakes.created_ms(channel.last_message_id)
        for guild in map(played.guild, played.guilds_of(played.user_ids[0]))
        if guild is not None
        for channel in played.channels_of(guild)
        if channel.last_message_id is not None
    ]

    assert min(ages) < 3_600_000
    assert max(ages) > 365 * 86_400_000


def test_a_guild_is_made_again_the_same_when_it_was_forgotten() -> None:
    """Forgetting channels to save memory changes nothing."""
    played = world.World(world.WorldSpec(users=1, guilds_per_user=3))
    guild = played.guild(played.guilds_of(played.user_ids[0])[0])
    assert guild is not None
    before = played.channels_of(guild)

    played._channels.drop(guild.id)

    assert played.channels_of(guild) == before
    assert played.channels_of(guild) is not before
