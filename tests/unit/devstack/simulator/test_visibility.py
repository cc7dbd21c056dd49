"""What a member can see."""

from devstack.simulator import channels, permissions, visibility, world


def test_the_owner_sees_everything_when_others_see_less() -> None:
    """The owner sees every channel of the guild; a bot without administrator does not."""
    simulated = world.World(world.WorldSpec(users=1, guilds_per_user=30))
    user = simulated.user_ids[0]
    hidden_from_bot = 0

    for guild in map(simulated.guild, simulated.guilds_of(user)):
        assert guild is not None
        guild.owner_id = user
        every = {str(channel.id) for channel in simulated.channels_of(guild)}

        truth = visibility.true_view(simulated, guild, user)

        assert set(truth["channels"]) == every
        assert set(truth["indexable"]) <= every
        assert truth["owner"]
        hidden_from_bot += guild.has_bot and len(every) > len(truth["indexable"])
        assert guild.has_bot or truth["indexable"] == []
    assert hidden_from_bot > 3


def test_a_user_sees_nothing_when_they_are_not_a_member() -> None:
    """The result for a user who is not a member is empty."""
    simulated = world.World(world.WorldSpec(users=1, guilds_per_user=2))
    guild = simulated.guild(simulated.guilds_of(simulated.user_ids[0])[0])
    assert guild is not None

    truth = visibility.true_view(simulated, guild, 1)

    assert (truth["channels"], truth["permissions"], truth["owner"]) == ([], "0", False)


def test_a_private_category_is_visible_when_one_of_its_channels_is() -> None:
    """A category that denies everyone is visible to a user who sees one of its channels."""
    simulated = world.World(world.WorldSpec(users=1, guilds_per_user=2, without_bot=0.0))
    user = simulated.user_ids[0]
    guild = simulated.guild(simulated.guilds_of(user)[0])
    assert guild is not None
    simulated.set_roles(user, guild, frozenset())
    guild.roles[0].permissions = permissions.VIEW_CHANNEL
    denial = permissions.Overwrite(guild.id, permissions.ROLE, 0, permissions.VIEW_CHANNEL)
    made = simulated.editable(guild)
    made[:] = [
        channels.Channel(1, channels.CATEGORY, "with a child", 0, overwrites=[denial]),
        channels.Channel(2, channels.CATEGORY, "without", 0, overwrites=[denial]),
        channels.Channel(3, channels.TEXT, "child", 0, parent_id=1),
        channels.Channel(4, channels.CATEGORY, "open and empty", 0),
    ]

    truth = visibility.true_view(simulated, guild, user)

    assert (truth["channels"], truth["categories"]) == (["1", "3"], ["1"])
    guild.roles[0].permissions |= permissions.MANAGE_CHANNELS
    assert visibility.true_view(simulated, guild, user)["categories"] == ["1", "4"]
