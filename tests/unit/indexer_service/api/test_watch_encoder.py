"""What a watch sends, as bytes."""

import dataclasses

import pytest

from indexer_service.api import page_tokens, watch_encoder
from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import model
from indexing.usecases import watch_job
from tests import values

JOB = values.job(listed=True)
SIGNER = page_tokens.Tokens((b"k" * 32,))
ROWS = (values.task(1), values.task(2))


def changed(*rows: model.GuildTask, own: bool = False, job: model.Job = JOB) -> watch_job.Changed:
    """Return a change of these rows."""
    return watch_job.Changed(model.JobUpdate(job, model.tally_of(ROWS), rows), own)


def told(
    made: watch_encoder.Wire, message: watch_job.Message, before: str = "1-0", at: str = "2-0"
) -> list[pb.WatchProgressResponse]:
    """Return the messages of a watch that goes from one place to another."""
    return [pb.WatchProgressResponse.FromString(body) for body in made.bodies(JOB.job_id, before, at, message)]


def test_every_part_leads_back_to_its_beginning_when_a_change_has_several() -> None:
    """Only who has the last part goes on from the new place; numbers come with each row."""
    parts = told(watch_encoder.Wire(SIGNER), changed(*ROWS, own=True))

    assert [part.WhichOneof("event") for part in parts] == ["guild", "guild", "job"]
    places = [SIGNER.read("token", watch_encoder.WATCH, part.resume_token) for part in parts]
    assert places == [[JOB.job_id, "1-0"], [JOB.job_id, "1-0"], [JOB.job_id, "2-0"]]
    assert [part.progress.total for part in parts] == [2, 2, 0]


def test_the_job_is_left_out_when_only_its_numbers_changed() -> None:
    """They come with the row."""
    (part,) = told(watch_encoder.Wire(SIGNER), changed(ROWS[0]))

    assert (part.guild.guild_id, part.progress.queued) == ("1", 2)


def test_the_wait_is_told_once_when_rows_change_while_the_job_waits() -> None:
    """With the job's own change, not with every row."""
    waiting = dataclasses.replace(JOB, waiting_for="user", waiting_until=7.0)

    first = told(watch_encoder.Wire(SIGNER), changed(own=True, job=waiting))
    second = told(watch_encoder.Wire(SIGNER), changed(ROWS[0], job=waiting))

    assert [part.WhichOneof("event") for part in first] == ["job", "throttled"]
    assert [part.WhichOneof("event") for part in second] == ["guild"]


@pytest.mark.parametrize("message", [changed(*ROWS), watch_job.Ended(JOB, model.tally_of(ROWS))], ids=["change", "end"])
def test_the_bytes_are_made_once_when_watchers_are_told_the_same(message: watch_job.Message) -> None:
    """From the same place to the same place; another place is another message."""
    made = watch_encoder.Wire(SIGNER)

    first = made.bodies(JOB.job_id, "1-0", "2-0", message)

    assert made.bodies(JOB.job_id, "1-0", "2-0", message) is first
    assert made.bodies(JOB.job_id, "0-0", "2-0", message) is not first
    assert made.bodies("b" * 32, "1-0", "2-0", message) is not first


def test_the_job_is_told_when_it_changed_for_one_watcher_and_not_for_another() -> None:
    """Who comes back is told it in any case."""
    made = watch_encoder.Wire(SIGNER)

    kinds = [[part.WhichOneof("event") for part in told(made, changed(ROWS[0], own=own))] for own in (False, True)]

    assert kinds == [["guild"], ["guild", "job"]]


def test_few_bytes_are_kept_when_very_much_happens() -> None:
    """The latest."""
    made = watch_encoder.Wire(SIGNER)
    for place in range(watch_encoder.KEPT + 10):
        last = made.bodies(JOB.job_id, f"{place}-0", f"{place + 1}-0", changed(ROWS[0]))

    assert len(made._kept) == watch_encoder.KEPT
    assert made.bodies(JOB.job_id, f"{place}-0", f"{place + 1}-0", changed(ROWS[0])) is last
