"""What one member really sees of a guild: the truth that a client's index can be compared with."""

from devstack.simulator import channels, guilds, payloads, permissions, world


def channels_seen(played: world.World, guild: guilds.Guild, user_id: int) -> list[channels.Channel]:
    """List the channels of *guild* that a user, or our bot, may view; nothing for who is not a member."""
    viewer = played.viewer(user_id, guild)
    if viewer is None:
        return []
    every = played.channels_of(guild)
    granted = permissions.base(viewer, guild.role_permissions())
    is_bot = user_id == played.bot_id
    seen = {
        channel.id
        for channel in every
        if permissions.in_channel(viewer, granted, channel.overwrites) and not (is_bot and channel.hidden)
    }
    seen = permissions.with_categories(seen, {channel.id: channel.parent_id for channel in every})
    return [channel for channel in every if channel.id in seen]


def truth(played: world.World, guild: guilds.Guild, user_id: int) -> payloads.Json:
    """Tell what a user sees of a guild, and how much of it our bot can know."""
    viewer = played.viewer(user_id, guild)
    seen = channels_seen(played, guild, user_id)
    known_to_bot = {channel.id for channel in channels_seen(played, guild, played.bot_id)}
    granted = 0 if viewer is None else permissions.base(viewer, guild.role_permissions())
    ids = sorted(channel.id for channel in seen)
    return {
        "id": str(guild.id),
        "name": guild.name,
        "bot": guild.has_bot,
        "owner": viewer is not None and viewer.owner,
        "permissions": str(granted),
        "channels": [str(channel_id) for channel_id in ids],
        "categories": sorted(str(channel.id) for channel in seen if channel.type == channels.CATEGORY),
        "indexable": [str(channel_id) for channel_id in ids if channel_id in known_to_bot],
    }
