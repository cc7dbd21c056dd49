"""The encoded messages of WatchProgress."""

import dataclasses

import pytest

from indexer_service.api import page_tokens, watch_encoder
from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import job_updates, model
from indexing.usecases import watch_job
from tests import values

JOB = values.job(listed=True)
TOKENS = page_tokens.PageTokens((b"k" * 32,))
ROWS = (values.task(1), values.task(2))


def changed(*rows: model.GuildTask, own: bool = False, job: model.Job = JOB) -> watch_job.Changed:
    """Return a change of these rows."""
    return watch_job.Changed(job_updates.JobUpdate(job, job_updates.tally_of(ROWS), rows), own)


def responses(
    encoder: watch_encoder.WatchEncoder, message: watch_job.Message, before: str = "1-0", at: str = "2-0"
) -> list[pb.WatchProgressResponse]:
    """Return the messages from one position to another."""
    return [pb.WatchProgressResponse.FromString(body) for body in encoder.encode(JOB.job_id, before, at, message)]


def test_only_the_last_message_has_the_new_position_when_a_change_has_several() -> None:
    """A watcher cut off between them gets all of them again; each row carries the job's progress."""
    parts = responses(watch_encoder.WatchEncoder(TOKENS), changed(*ROWS, own=True))

    assert [part.WhichOneof("event") for part in parts] == ["guild", "guild", "job"]
    positions = [TOKENS.verify("token", watch_encoder.PURPOSE, part.resume_token) for part in parts]
    assert positions == [[JOB.job_id, "1-0"], [JOB.job_id, "1-0"], [JOB.job_id, "2-0"]]
    assert [part.progress.total for part in parts] == [2, 2, 0]


def test_the_job_is_left_out_when_only_its_progress_changed() -> None:
    """The row carries the progress."""
    (part,) = responses(watch_encoder.WatchEncoder(TOKENS), changed(ROWS[0]))

    assert (part.guild.guild_id, part.progress.queued) == ("1", 2)


def test_throttled_is_sent_once_when_rows_change_while_the_job_waits() -> None:
    """With the job's own change, not with every row."""
    waiting = dataclasses.replace(JOB, waiting_for="user", waiting_until=7.0)

    first = responses(watch_encoder.WatchEncoder(TOKENS), changed(own=True, job=waiting))
    second = responses(watch_encoder.WatchEncoder(TOKENS), changed(ROWS[0], job=waiting))

    assert [part.WhichOneof("event") for part in first] == ["job", "throttled"]
    assert [part.WhichOneof("event") for part in second] == ["guild"]


@pytest.mark.parametrize(
    "message", [changed(*ROWS), watch_job.Ended(JOB, job_updates.tally_of(ROWS))], ids=["change", "end"]
)
def test_the_bytes_are_made_once_when_watchers_get_the_same(message: watch_job.Message) -> None:
    """Between the same positions of the same job."""
    encoder = watch_encoder.WatchEncoder(TOKENS)

    first = encoder.encode(JOB.job_id, "1-0", "2-0", message)

    assert encoder.encode(JOB.job_id, "1-0", "2-0", message) is first
    assert encoder.encode(JOB.job_id, "0-0", "2-0", message) is not first
    assert encoder.encode("b" * 32, "1-0", "2-0", message) is not first


def test_the_job_is_sent_when_it_changed_for_one_watcher_and_not_for_another() -> None:
    """A watcher that resumes gets it in any case."""
    encoder = watch_encoder.WatchEncoder(TOKENS)

    kinds = [
        [part.WhichOneof("event") for part in responses(encoder, changed(ROWS[0], own=own))] for own in (False, True)
    ]

    assert kinds == [["guild"], ["guild", "job"]]


def test_the_kept_bytes_are_bounded_when_many_changes_happen() -> None:
    """The latest are kept."""
    encoder = watch_encoder.WatchEncoder(TOKENS)
    for number in range(watch_encoder.MAX_KEPT + 10):
        last = encoder.encode(JOB.job_id, f"{number}-0", f"{number + 1}-0", changed(ROWS[0]))

    assert len(encoder._kept) == watch_encoder.MAX_KEPT
    assert encoder.encode(JOB.job_id, f"{number}-0", f"{number + 1}-0", changed(ROWS[0])) is last
