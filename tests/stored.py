"""Store writes as use cases make them: load the stored value, then write conditionally."""

from collections.abc import Collection, Sequence

from indexing.domain import model, ports
from indexing.usecases import read_channels


async def user(users: ports.Users, user_id: int) -> model.User:
    """Return a user, creating them if they are unknown."""
    found = await users.load(user_id)
    if found is None:
        await users.put_preferences(user_id, model.Preferences())
        found = await users.load(user_id)
    assert found is not None
    return found


async def member(users: ports.Users, user_id: int, guild_id: int) -> model.Membership | None:
    """Return a present membership."""
    found = await users.load(user_id)
    return found.memberships.get(guild_id) if found else None


async def guild_list(users: ports.Users, user_id: int, guilds: Sequence[model.UserGuild], now: float) -> bool:
    """Store a user's guild list that was requested at *now*."""
    return await users.replace_guild_list(await user(users, user_id), guilds, now)


async def roles(users: ports.Users, user_id: int, guild_id: int, role_ids: Sequence[int], now: float) -> bool:
    """Store a member's roles that were requested at *now*; False if there is no such member."""
    known = await member(users, user_id, guild_id)
    return known is not None and await users.store_roles(known, role_ids, now)


async def left(users: ports.Users, user_id: int, guild_id: int) -> bool:
    """Store that a user left a guild; False if they were no member."""
    known = await member(users, user_id, guild_id)
    return known is not None and await users.mark_left(known)


async def channels(  # noqa: PLR0913 -- what a listing consists of
    guilds: ports.Guilds,
    guild_id: int,
    *,
    fence: int,
    channels: Sequence[model.Channel],
    now: float,
    schedule: model.Schedule = model.NEVER_FETCHED,
) -> bool:
    """Store a listing that was requested at *now* under a lease."""
    known = (await guilds.load([guild_id])).get(guild_id)
    gone = read_channels.gone_after(known, channels, now) if known is not None else ()
    listing = model.Listing(fence, channels, now, schedule, known.guild if known else None, gone)
    return await guilds.store_channels(guild_id, listing)


async def list_channels(guilds: ports.Guilds, guild_ids: Collection[int]) -> list[model.Channel]:
    """Return the stored channels of guilds, by guild, position and id."""
    found = await guilds.load(guild_ids)
    return [channel for guild_id in sorted(found) for channel in found[guild_id].channels]
