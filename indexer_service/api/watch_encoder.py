"""
What a watch sends, as bytes: made once for all watchers who are told the same.

Watchers of one job who were at the same place get the same messages with the same tokens, so the bytes of a change are
kept for a while under the two places between which it lies.
"""

import collections
from collections.abc import Iterator

from indexer_service.api import convert, page_tokens
from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import model
from indexing.usecases import watch_job

WATCH = "watch"
"""Purpose of the tokens that name a job and a place in its stream."""
SNAPSHOT_ROWS = 50
"""Most rows in one message of a snapshot: with names of 100 characters it stays far below gRPC's 4 MiB."""
KEPT = 1_000
"""Changes whose bytes are kept, the latest: some hundred bytes each."""


class Wire:
    """Turns what happens to jobs into serialised WatchProgressResponses."""

    def __init__(self, signer: page_tokens.Tokens) -> None:
        self._tokens = signer
        self._kept: collections.OrderedDict[tuple[str, str, str, str], list[bytes]] = collections.OrderedDict()

    def bodies(self, job_id: str, before: str, position: str, message: watch_job.Message) -> list[bytes]:
        """
        Return the messages for a watcher who was told everything up to *before*, and then is up to *position*.

        Whoever is cut off in the middle of several must get all of them again, so only the last has the new place.
        """
        if isinstance(message, watch_job.Changed):
            kind = "own" if message.own else "rows"
        elif isinstance(message, watch_job.Ended):
            kind = "end"
        else:
            return self._made(job_id, before, position, _responses(message))
        key = job_id, before, position, kind
        known = self._kept.get(key)
        if known is None:
            known = self._kept[key] = self._made(job_id, before, position, _responses(message))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return known

    def token(self, job_id: str, position: str) -> str:
        """Return the token with which a watcher goes on from *position*."""
        return self._tokens.make(WATCH, [job_id, position])

    def _made(self, job_id: str, before: str, position: str, found: Iterator[pb.WatchProgressResponse]) -> list[bytes]:
        *parts, last = found
        if parts:
            again = self.token(job_id, before)
            for part in parts:
                part.resume_token = again
        last.resume_token = self.token(job_id, position)
        return [part.SerializeToString() for part in (*parts, last)]


def _responses(message: watch_job.Message) -> Iterator[pb.WatchProgressResponse]:
    """Yield what one thing that happened looks like."""
    if isinstance(message, watch_job.Snapshot):
        yield from _snapshot(message)
    elif isinstance(message, watch_job.Heartbeat):
        yield pb.WatchProgressResponse(heartbeat=pb.Heartbeat(at=convert.timestamp(message.at)))
    elif isinstance(message, watch_job.Leaving):
        yield pb.WatchProgressResponse(going_away=pb.GoingAway(reason=message.reason))
    elif isinstance(message, watch_job.Ended):
        yield pb.WatchProgressResponse(terminal=pb.Terminal(job=convert.job(message.job, message.count_tasks)))
    else:
        yield from _changed(message.update, own=message.own)


def _changed(update: model.JobUpdate, *, own: bool) -> Iterator[pb.WatchProgressResponse]:
    numbers = convert.progress(update.tally)
    for unit in update.tasks:
        yield pb.WatchProgressResponse(guild=convert.job_guild(unit), progress=numbers)
    if own or not update.tasks:
        yield pb.WatchProgressResponse(job=convert.job(update.job, update.tally))
        waiting = convert.throttled(update.job)
        if waiting is not None:
            yield pb.WatchProgressResponse(throttled=waiting)


def _snapshot(message: watch_job.Snapshot) -> Iterator[pb.WatchProgressResponse]:
    job = convert.job(message.job, message.count_tasks)
    rows = [convert.job_guild(unit) for unit in message.tasks]
    for at in range(0, max(1, len(rows)), SNAPSHOT_ROWS):
        page = rows[at : at + SNAPSHOT_ROWS]
        yield pb.WatchProgressResponse(snapshot=pb.Snapshot(job=job, guilds=page, reason=message.reason))
    yield pb.WatchProgressResponse(snapshot_end=pb.SnapshotEnd())
