"""`indexer index` and `indexer job`."""

import asyncio
import contextlib
import dataclasses
import sys
import uuid
from collections.abc import AsyncGenerator

from indexer_client.cli import connection, errors, escape, job_state, output, text, times, views, watch
from indexer_service.v1 import indexer_pb2 as pb


@dataclasses.dataclass(frozen=True, slots=True)
class How:
    """How a job is shown: watched to its end or not, and as JSON or for people."""

    watched: bool
    as_json: bool
    patience: watch.Patience


def start_request(user: str, *, wait: float | None, force: bool) -> pb.StartIndexingRequest:
    """Return the request that starts a job, with an id that makes it safe to repeat."""
    request = pb.StartIndexingRequest(user_id=user, request_id=str(uuid.uuid4()), force=force)
    if wait is not None:
        request.wait.CopyFrom(times.duration(wait))
    return request


async def index(stub: connection.Stub, request: pb.StartIndexingRequest, how: How) -> int:
    """Start a job, show how it goes, and return the exit code."""
    seen = job_state.Board()
    seen.job.user_id = request.user_id
    elapsed = views.stopwatch()
    waits = request.wait.ToMilliseconds() / 1000
    try:
        async with views.showing(seen, output.screen(sys.stdout), as_json=how.as_json) as view:
            answer = await stub.StartIndexing(request, timeout=waits + connection.DEADLINE)
            seen.start(answer)
            view.answered(answer)
            if how.watched:
                messages = watch.messages(stub, seen.job.job_id, answer.watch_token, how.patience)
                await _watch(messages, seen, view)
    except asyncio.CancelledError:
        if seen.job.job_id and not seen.ended:
            output.warn(f"the job goes on; see it with: indexer job {seen.job.job_id}")
        raise
    if not how.as_json:
        output.line(text.summary(seen, elapsed()) if seen.ended else _left(seen, answer.remaining))
    return _verdict(seen)


async def _watch(
    messages: AsyncGenerator[pb.WatchProgressResponse, None], seen: job_state.Board, view: views.View
) -> None:
    try:
        async with contextlib.aclosing(messages):
            async for message in messages:
                view.heard(message, seen.apply(message))
    except watch.Lost as lost:
        raise errors.Problem(f"{lost}; see it with: indexer job {seen.job.job_id}") from lost


def _left(seen: job_state.Board, remaining: int) -> str:
    return f"{times.counted(remaining, 'guild')} to go; see it with: indexer job {seen.job.job_id}"


def _verdict(seen: job_state.Board) -> int:
    """Name what failed on standard error; returns the exit code."""
    for row in seen.by_rank():
        if row.state == pb.GUILD_STATE_FAILED:
            output.warn(text.failure(row))
    job = seen.job
    if job.state == pb.JOB_STATE_FAILED:
        output.warn(f"job {job.job_id} failed: {escape.visible(job.error) or 'no cause given'}")
    elif job.state == pb.JOB_STATE_CANCELLED:
        output.warn(f"job {job.job_id} was cancelled")
    return errors.FAILURE if job.state in {pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED} else 0


async def job(stub: connection.Stub, job_id: str, *, as_json: bool) -> int:
    """Show one job."""
    answer = await stub.GetJob(pb.GetJobRequest(job_id=job_id), timeout=connection.DEADLINE)
    if as_json:
        output.json(answer.job)
        return 0
    found, progress = answer.job, answer.job.progress
    output.line(f"job      {found.job_id}")
    output.line(f"user     {found.user_id}")
    output.line(f"state    {text.JOBS.get(found.state, 'unknown')}{_cause(found)}")
    numbers = [(progress.succeeded, "indexed"), (progress.skipped, "skipped"), (progress.failed, "failed")]
    numbers += [(progress.running, "running"), (progress.queued, "queued"), (progress.cancelled, "cancelled")]
    states = ", ".join(f"{number} {name}" for number, name in numbers if number)
    output.line(f"guilds   {progress.total}{f' ({states})' if states else ''}")
    output.line(f"created  {times.moment(found.created_at):%Y-%m-%d %H:%M:%S}")
    if found.HasField("finished_at"):
        output.line(f"finished {times.moment(found.finished_at):%Y-%m-%d %H:%M:%S}")
    return 0


def _cause(found: pb.Job) -> str:
    if found.HasField("throttled"):
        return f", {text.waiting(found.throttled)}"
    return f" ({escape.visible(found.error)})" if found.error else ""
