"""The channels that a member can really see: the ground truth for a client's index."""

from devstack.simulator import channels, guilds, payloads, permissions, world


def visible_channels(simulated: world.World, guild: guilds.Guild, user_id: int) -> list[channels.Channel]:
    """
    Return the channels of *guild* that a user or the bot can view; none for a user who is not a member.

    A category without a channel that the user sees is shown only to a user who may manage channels, as the clients do;
    the bot's listing has it.
    """
    viewer = simulated.viewer(user_id, guild)
    if viewer is None:
        return []
    all_channels = simulated.channels_of(guild)
    granted = permissions.guild_permissions(viewer, guild.role_permissions())
    is_bot = user_id == simulated.bot_id
    seen = {
        channel.id
        for channel in all_channels
        if permissions.channel_permissions(viewer, granted, channel.overwrites) and not (is_bot and channel.hidden)
    }
    seen = permissions.with_parent_categories(seen, {channel.id: channel.parent_id for channel in all_channels})
    shown = [channel for channel in all_channels if channel.id in seen]
    return shown if is_bot or granted & permissions.MANAGE_CHANNELS else without_empty_categories(shown)


def without_empty_categories(seen: list[channels.Channel]) -> list[channels.Channel]:
    """Return the channels without categories of which no channel is among them."""
    parents = {channel.parent_id for channel in seen}
    return [channel for channel in seen if channel.type != channels.CATEGORY or channel.id in parents]


def true_view(simulated: world.World, guild: guilds.Guild, user_id: int) -> payloads.Json:
    """Return what a user sees of a guild, and which of it the bot can see as well."""
    viewer = simulated.viewer(user_id, guild)
    seen = visible_channels(simulated, guild, user_id)
    known_to_bot = {channel.id for channel in visible_channels(simulated, guild, simulated.bot_id)}
    granted = 0 if viewer is None else permissions.guild_permissions(viewer, guild.role_permissions())
    indexable = [channel for channel in seen if channel.id in known_to_bot]
    if not granted & permissions.MANAGE_CHANNELS:
        indexable = without_empty_categories(indexable)
    return {
        "id": str(guild.id),
        "name": guild.name,
        "bot": guild.has_bot,
        "owner": viewer is not None and viewer.owner,
        "permissions": str(granted),
        "channels": [str(channel_id) for channel_id in sorted(channel.id for channel in seen)],
        "categories": sorted(str(channel.id) for channel in seen if channel.type == channels.CATEGORY),
        "indexable": [str(channel_id) for channel_id in sorted(channel.id for channel in indexable)],
    }
