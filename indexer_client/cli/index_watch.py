"""`indexer watch`: what a user may see, as it changes."""

import asyncio
import contextlib
from collections.abc import Iterator

from google.protobuf import timestamp_pb2

from indexer_client import index_state
from indexer_client.cli import connection, formatting, output, times
from indexer_service.v1 import indexer_pb2 as pb

MOST_LINES = 20
"""Channels of one change that get a line each; more are counted."""


async def watch_index(client: connection.Client, user: str, *, form: output.Form) -> int:
    """Print changes until interrupted; returns the exit code."""
    state = index_state.IndexState()
    try:
        async with contextlib.aclosing(client.watch_index(user)) as messages:
            async for message in messages:
                if form.structured:
                    output.print_message(message, form)
                else:
                    _show(state, message)
    except asyncio.CancelledError:
        output.print_error(f"no longer watching; watch again with: indexer watch {user}")
        raise
    return 0


def _show(state: index_state.IndexState, message: pb.WatchIndexResponse) -> None:
    """Apply a message and print what it changed; of a snapshot only its size."""
    was_complete = state.complete
    change = state.apply(message)
    now = times.time_of_day(_now())
    if change is not None and was_complete:
        for line in _lines(change):
            output.print_sentence(f"{now} {line}", indent=len(now) + 1)
    elif state.complete and not was_complete:
        counts = f"{times.pluralize(len(state.guilds), 'guild')}, {times.pluralize(state.channel_count, 'channel')}"
        output.print_sentence(f"{now} {counts}; waiting for changes (Ctrl-C ends)")


def _now() -> timestamp_pb2.Timestamp:
    return times.timestamp_in(0.0)


def _lines(change: index_state.Change) -> Iterator[str]:
    """Yield a line for a guild that is new or gone, and for each channel: + new, ~ changed, - gone."""
    name = formatting.guild_name(change.guild)
    if change.added or change.removed:
        count = times.pluralize(len(change.before if change.removed else change.after), "channel")
        yield f"{'-' if change.removed else '+'} {name} ({count})"
        return
    if not change.before and not change.after:
        note = formatting.reason_phrase(change.guild.reason)
        yield f"~ {name}{f' ({note})' if note else ''}"
    ids = [*change.after, *(key for key in change.before if key not in change.after)]
    for channel_id in ids[:MOST_LINES]:
        before, after = change.before.get(channel_id), change.after.get(channel_id)
        yield f"{name}: {_channel(before, after)}"
    if len(ids) > MOST_LINES:
        yield f"{name}: and {times.pluralize(len(ids) - MOST_LINES, 'more channel')}"


def _channel(before: pb.Channel | None, after: pb.Channel | None) -> str:
    if after is None:
        return f"- {_title(before)}"
    if before is None:
        return f"+ {_title(after)}"
    return f"~ {_title(before)} -> {_title(after)}" if before.name != after.name else f"~ {_title(after)}"


def _title(row: pb.Channel | None) -> str:
    return "" if row is None else f"{row.name} ({row.channel_id})"
