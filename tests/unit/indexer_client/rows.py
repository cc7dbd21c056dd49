"""Builders of API messages for tests."""

from google.protobuf import timestamp_pb2

from indexer_service.v1 import indexer_pb2 as pb

USER = "806171784905752576"
JOB = "0123456789abcdef0123456789abcdef"
NOON = timestamp_pb2.Timestamp(seconds=1_795_435_200)
LATER = timestamp_pb2.Timestamp(seconds=NOON.seconds + 1_000 * 86_400)
"""A moment that does not pass while these tests are in use."""


def job(state: str = "RUNNING", **more: object) -> pb.Job:
    """Return a job whose guild list was read."""
    made = pb.Job(job_id=JOB, user_id=USER, state=f"JOB_STATE_{state}", guilds_listed=True, create_time=NOON)
    made.MergeFrom(pb.Job(**more))  # type: ignore[arg-type]  # fields of a job, whatever their types
    return made


def guild(number: int, state: str = "QUEUED", **more: object) -> pb.JobGuild:
    """Return a guild task; *number* sets its guild id and its position."""
    made = pb.JobGuild(
        guild_id=str(1000 + number), name=f"guild {number}", state=f"GUILD_STATE_{state}", position=number, revision=1
    )
    made.MergeFrom(pb.JobGuild(**more))  # type: ignore[arg-type]  # fields of a guild task, whatever their types
    return made


def started(*guilds: pb.JobGuild, of: pb.Job | None = None) -> pb.StartIndexingResponse:
    """Return a response of StartIndexing."""
    return pb.StartIndexingResponse(
        job=of or job(),
        disposition="DISPOSITION_CREATED",
        guilds=guilds,
        remaining=sum(row.state == pb.GUILD_STATE_QUEUED for row in guilds),
        watch_token="token-0",
    )


def changed(row: pb.JobGuild, at: str = "token-1") -> pb.WatchProgressResponse:
    """Return the event of a changed guild task."""
    return pb.WatchProgressResponse(guild=row, resume_token=at)


def moved(of: pb.Job, at: str = "token-1") -> pb.WatchProgressResponse:
    """Return the event of a changed job."""
    return pb.WatchProgressResponse(job=of, resume_token=at)


def ended(of: pb.Job, at: str = "token-9") -> pb.WatchProgressResponse:
    """Return the terminal event."""
    return pb.WatchProgressResponse(terminal=pb.Terminal(job=of), resume_token=at)
