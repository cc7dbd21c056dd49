"""
Encodes the messages of WatchProgress, once for all watchers that get the same.

Watchers of one job that were at the same position get the same messages with the same tokens. So the bytes of a change
are kept for a while, under the positions before and after it.
"""

import collections
from collections.abc import Iterator

from indexer_service.api import convert, page_tokens
from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import job_updates
from indexing.usecases import watch_job

PURPOSE = "watch"
"""Purpose of the tokens that name a job and a position in its stream."""
SNAPSHOT_ROWS = 50
"""Most rows in one message of a snapshot: with names of 100 characters it stays far below gRPC's 4 MiB."""
MAX_KEPT = 1_000
"""Most changes whose bytes are kept, the latest; each has some hundred bytes."""


class WatchEncoder:
    """Turns the events of a job into serialized WatchProgressResponses."""

    def __init__(self, tokens: page_tokens.PageTokens) -> None:
        self._tokens = tokens
        self._kept: collections.OrderedDict[tuple[str, str, str, str], list[bytes]] = collections.OrderedDict()

    def encode(self, job_id: str, before: str, position: str, message: watch_job.Message) -> list[bytes]:
        """
        Return the messages that lead a watcher from the position *before* to *position*.

        Only the last of several messages carries the new position: a watcher cut off between them gets all of them
        again.
        """
        if isinstance(message, watch_job.Changed):
            kind = "own" if message.job_changed else "rows"
        elif isinstance(message, watch_job.Ended):
            kind = "end"
        else:
            return self._serialize(job_id, before, position, _responses(message))
        key = job_id, before, position, kind + _nameless(message)
        known = self._kept.get(key)
        if known is None:
            known = self._kept[key] = self._serialize(job_id, before, position, _responses(message))
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return known

    def resume_token(self, job_id: str, position: str) -> str:
        """Return the token with which a watcher continues after *position*."""
        return self._tokens.sign(PURPOSE, [job_id, position])

    def _serialize(
        self, job_id: str, before: str, position: str, responses: Iterator[pb.WatchProgressResponse]
    ) -> list[bytes]:
        *parts, last = responses
        if parts:
            token = self.resume_token(job_id, before)
            for part in parts:
                part.resume_token = token
        last.resume_token = self.resume_token(job_id, position)
        return [part.SerializeToString() for part in (*parts, last)]


def _nameless(message: watch_job.Message) -> str:
    """Return which rows of a change are without a name: a watcher that comes after the user left a guild gets it so."""
    tasks = message.update.tasks if isinstance(message, watch_job.Changed) else ()
    return "".join(f" {task.guild_id}" for task in tasks if not task.name)


def _responses(message: watch_job.Message) -> Iterator[pb.WatchProgressResponse]:
    """Yield the messages for one event, without tokens."""
    if isinstance(message, watch_job.Snapshot):
        yield from _snapshot(message)
    elif isinstance(message, watch_job.Heartbeat):
        yield pb.WatchProgressResponse(heartbeat=pb.Heartbeat(send_time=convert.timestamp(message.at)))
    elif isinstance(message, watch_job.Disconnecting):
        yield pb.WatchProgressResponse(going_away=pb.GoingAway(reason=f"GOING_AWAY_REASON_{message.reason}"))
    elif isinstance(message, watch_job.Ended):
        yield pb.WatchProgressResponse(terminal=pb.Terminal(job=convert.job(message.job, message.tally)))
    else:
        yield from _changes(message.update, own=message.job_changed)


def _changes(update: job_updates.JobUpdate, *, own: bool) -> Iterator[pb.WatchProgressResponse]:
    numbers = convert.progress(update.tally)
    for task in update.tasks:
        yield pb.WatchProgressResponse(guild=convert.job_guild(task), progress=numbers)
    if own or not update.tasks:
        yield pb.WatchProgressResponse(job=convert.job(update.job, update.tally))
        throttled = convert.throttled(update.job)
        if throttled is not None:
            yield pb.WatchProgressResponse(throttled=throttled)


def _snapshot(message: watch_job.Snapshot) -> Iterator[pb.WatchProgressResponse]:
    job = convert.job(message.job, message.tally)
    rows = [convert.job_guild(task) for task in message.tasks]
    reason = f"SNAPSHOT_REASON_{message.reason or 'UNSPECIFIED'}"
    for start in range(0, max(1, len(rows)), SNAPSHOT_ROWS):
        page = rows[start : start + SNAPSHOT_ROWS]
        yield pb.WatchProgressResponse(snapshot=pb.Snapshot(job=job, guilds=page, reason=reason))
    yield pb.WatchProgressResponse(snapshot_end=pb.SnapshotEnd())
