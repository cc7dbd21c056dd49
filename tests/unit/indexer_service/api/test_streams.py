"""How many streams there may be, for how long, and how slowly one may be read."""

import asyncio
import contextlib

import pytest
from google.protobuf import message

from indexer_service.api import streams
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors, settings
from tests import clockwork

pytestmark = pytest.mark.clockwork
HOUR = 3600.0


def make(**limits: object) -> streams.Streams:
    """Return streams with these limits, in the time of the test."""
    return streams.Streams(settings.ServiceSettings.model_validate(limits), clockwork.running_clock())


async def test_a_place_is_refused_when_the_job_has_its_watchers() -> None:
    """Other jobs' places are not his."""
    places = make(max_watchers_per_job=2)

    with contextlib.ExitStack() as held:
        for job_id in ("a", "a", "b"):
            held.enter_context(places.place(job_id))
        with pytest.raises(errors.TooManyWatchers) as refused, places.place("a"):
            pass

    assert refused.value.whose == "job"


async def test_a_place_is_refused_when_the_process_has_its_watchers() -> None:
    """Of whichever jobs."""
    places = make(max_watchers=2)

    with contextlib.ExitStack() as held:
        for job_id in ("a", "b"):
            held.enter_context(places.place(job_id))
        with pytest.raises(errors.TooManyWatchers) as refused, places.place("c"):
            pass

    assert refused.value.whose == "process"


async def test_a_place_is_free_again_when_its_stream_has_ended() -> None:
    """Well or badly."""
    places = make(max_watchers=1, max_watchers_per_job=1)

    for problem in (None, KeyError("x"), asyncio.CancelledError()):
        with contextlib.suppress(KeyError, asyncio.CancelledError), places.place("a"):
            if problem is not None:
                raise problem

    with places.place("b") as leave:
        assert leave() == ""


async def test_every_stream_has_to_end_when_the_process_drains() -> None:
    """Those that run, and those that still come."""
    places = make()
    with places.place("a") as leave:
        before = leave()

        places.drain()

        with places.place("b") as later:
            assert (before, leave(), later()) == ("", "DRAINING", "DRAINING")


async def test_a_stream_has_to_end_when_it_is_old() -> None:
    """At an age that differs from stream to stream, so that they do not all come back at once."""
    places = make(max_stream_age=HOUR)
    clock = clockwork.running_clock()
    counts = []
    with contextlib.ExitStack() as held:
        leaves = [held.enter_context(places.place(str(number))) for number in range(50)]

        for part in (0.79, 0.21, 0.21):
            clock.advance(part * HOUR)
            counts.append(sum(leave() == "MAX_AGE" for leave in leaves))

    assert (counts[0], counts[2]) == (0, 50)
    assert 0 < counts[1] < 50


class Reader:
    """A context whose reader takes some seconds for each message."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def write(self, _: message.Message) -> None:
        """Take a message."""
        await asyncio.sleep(self._seconds)


async def test_a_stream_is_closed_when_nobody_reads_it() -> None:
    """Its token lets the reader go on; a reader who is merely slow is waited for."""
    places = make(slow_watcher=60.0)
    await places.write(Reader(59.0), pb.WatchProgressResponse())

    with pytest.raises(errors.SlowConsumer):
        await places.write(Reader(61.0), pb.WatchProgressResponse())
