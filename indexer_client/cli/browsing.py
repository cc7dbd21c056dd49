"""`indexer guilds` and `indexer channels`: list the stored index."""

from collections.abc import AsyncIterator, Sequence

from indexer_client.cli import connection, escape, formatting, output, times
from indexer_service.v1 import indexer_pb2 as pb

PAGE_SIZE = 200
"""Rows requested per page."""
CHANNEL_TYPES = {
    "text": 0,
    "voice": 2,
    "category": 4,
    "announcement": 5,
    "stage": 13,
    "forum": 15,
    "media": 16,
}
"""Discord's channel type numbers by name (developers/resources/channel, read 2026-11-23)."""
CHANNEL_TYPE_NAMES = {number: name for name, number in CHANNEL_TYPES.items()}


async def list_guilds(stub: connection.Stub, user: str, *, as_json: bool) -> int:
    """Print the user's guilds; returns the exit code."""
    found = _fetch_guilds(stub, user)
    if as_json:
        async for guild in found:
            output.print_json(guild)
        return 0
    print_guilds([guild async for guild in found], user)
    return 0


def print_guilds(guilds: Sequence[pb.Guild], user: str) -> None:
    """Print guilds as a table."""
    output.print_table(
        ["guild", "~name", ">channels", "indexed", "~note"],
        [
            (
                guild.guild_id,
                formatting.guild_name(guild),
                f"{guild.channel_count}" if guild.HasField("channel_count") else "",
                times.date_and_time(guild.fetch_time) if guild.HasField("fetch_time") else "",
                _note(guild),
            )
            for guild in guilds
        ],
        empty=f"no guild of user {user} is stored; index them with: indexer index {user}",
    )


async def list_channels(stub: connection.Stub, request: pb.ListChannelsRequest, *, as_json: bool) -> int:
    """Print the channels that the user can see; returns the exit code."""
    found = _fetch_channels(stub, request)
    if as_json:
        async for channel in found:
            output.print_json(channel)
        return 0
    await print_channels(stub, [channel async for channel in found], request.user_id)
    return 0


async def print_channels(stub: connection.Stub, channels: Sequence[pb.Channel], user: str) -> None:
    """Print channels as a table, with the names of their guilds."""
    names = {guild.guild_id: formatting.guild_name(guild) async for guild in _fetch_guilds(stub, user)}
    output.print_table(
        ["channel", "~guild", "type", "~name", "last message"],
        [
            (
                channel.channel_id,
                names.get(channel.guild_id, channel.guild_id),
                CHANNEL_TYPE_NAMES.get(channel.type, str(channel.type)),
                escape.visible(channel.name),
                times.date_and_time(channel.last_message_time) if channel.HasField("last_message_time") else "",
            )
            for channel in channels
        ],
        empty=f"no channel that user {user} can see matches",
    )


def _note(guild: pb.Guild) -> str:
    parts = ["owner"] if guild.owner else []
    parts += [formatting.reason_phrase(guild.reason)] if guild.reason else []
    parts += ["stale"] if guild.stale and guild.HasField("fetch_time") else []
    return ", ".join(parts)


async def _fetch_guilds(stub: connection.Stub, user: str) -> AsyncIterator[pb.Guild]:
    request = pb.ListGuildsRequest(user_id=user, page_size=PAGE_SIZE)
    while True:
        page = await stub.ListGuilds(request, timeout=connection.DEADLINE)
        for guild in page.guilds:
            yield guild
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def _fetch_channels(stub: connection.Stub, request: pb.ListChannelsRequest) -> AsyncIterator[pb.Channel]:
    request.page_size = PAGE_SIZE
    while True:
        page = await stub.ListChannels(request, timeout=connection.DEADLINE)
        for channel in page.channels:
            yield channel
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
