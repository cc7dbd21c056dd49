"""`indexer guilds` and `indexer channels`: list the stored index."""

from collections.abc import Mapping, Sequence
from typing import Any

from indexer_client.cli import connection, escape, formatting, output, times
from indexer_service.v1 import indexer_pb2 as pb

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


async def list_guilds(client: connection.Client, user: str, *, form: output.Form) -> int:
    """Print the user's guilds; returns the exit code."""
    found = client.guilds(user)
    if form.structured:
        async for guild in found:
            output.print_message(guild, form)
        return 0
    print_guilds([guild async for guild in found], user)
    return 0


def print_guilds(guilds: Sequence[pb.Guild], user: str) -> None:
    """Print guilds as a table."""
    output.print_table(
        ["guild", "~name", "?>channels", "?indexed", "?~note"],
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


async def list_channels(client: connection.Client, user: str, fields: Mapping[str, Any], *, form: output.Form) -> int:
    """Print the channels that the user can see; *fields* are those of ListChannelsRequest; returns the exit code."""
    found = client.channels(user, **fields)
    if form.structured:
        async for channel in found:
            output.print_message(channel, form)
        return 0
    await print_channels(client, [channel async for channel in found], user, of_one_guild=bool(fields["guild_id"]))
    return 0


async def print_channels(
    client: connection.Client, channels: Sequence[pb.Channel], user: str, *, of_one_guild: bool = False
) -> None:
    """Print channels as a table, with the names of their guilds, which a narrow terminal lacks if *of_one_guild*."""
    names = {guild.guild_id: formatting.guild_name(guild) async for guild in client.guilds(user)}
    output.print_table(
        ["channel", f"{'?' if of_one_guild else ''}~guild", "?type", "~name", "?last message"],
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
