"""The limits of streams: number, age, and slow readers."""

import asyncio
import contextlib

import pytest
from google.protobuf import message

from indexer_service import caller
from indexer_service.api import streams
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors, settings
from tests import clockwork

pytestmark = pytest.mark.clockwork
HOUR = 3600.0


def make(**limits: object) -> streams.StreamSlots:
    """Return slots with these limits, on the test's clock."""
    return streams.StreamSlots(settings.ServiceSettings.model_validate(limits), clockwork.running_clock())


async def test_a_slot_is_refused_when_the_job_has_reached_its_limit() -> None:
    """Other jobs' slots do not count."""
    slots = make(max_watchers_per_job=2)

    with contextlib.ExitStack() as held:
        for job_id in ("a", "a", "b"):
            held.enter_context(slots.slot(job_id))
        with pytest.raises(errors.TooManyWatchers) as refused, slots.slot("a"):
            pass

    assert refused.value.limit == "job"


async def test_a_slot_is_refused_when_the_process_has_reached_its_limit() -> None:
    """With the streams of all jobs together."""
    slots = make(max_watchers=2)

    with contextlib.ExitStack() as held:
        for job_id in ("a", "b"):
            held.enter_context(slots.slot(job_id))
        with pytest.raises(errors.TooManyWatchers) as refused, slots.slot("c"):
            pass

    assert refused.value.limit == "process"


async def test_a_slot_is_free_again_when_its_stream_has_ended() -> None:
    """Also by an error or a cancellation."""
    slots = make(max_watchers=1, max_watchers_per_job=1)

    for problem in (None, KeyError("x"), asyncio.CancelledError()):
        with contextlib.suppress(KeyError, asyncio.CancelledError), slots.slot("a"):
            if problem is not None:
                raise problem

    with slots.slot("b") as end_reason:
        assert end_reason() == ""


async def test_every_stream_has_to_end_when_the_process_drains() -> None:
    """Open streams and those that open later."""
    slots = make()
    with slots.slot("a") as end_reason:
        before = end_reason()

        slots.drain()

        with slots.slot("b") as later:
            assert (before, end_reason(), later()) == ("", "DRAINING", "DRAINING")


async def test_a_stream_has_to_end_when_it_is_old() -> None:
    """At an age that differs by stream, so that they do not all reconnect at once."""
    slots = make(max_stream_age=HOUR)
    clock = clockwork.running_clock()
    counts = []
    with contextlib.ExitStack() as held:
        reasons = [held.enter_context(slots.slot(str(number))) for number in range(50)]

        for part in (0.79, 0.21, 0.21):
            clock.advance(part * HOUR)
            counts.append(sum(end_reason() == "MAX_AGE" for end_reason in reasons))

    assert (counts[0], counts[2]) == (0, 50)
    assert 0 < counts[1] < 50


class Reader:
    """A context whose client takes some seconds to read each message."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def write(self, _: message.Message) -> None:
        """Take a message."""
        await asyncio.sleep(self._seconds)


async def test_a_stream_ends_when_its_client_does_not_read() -> None:
    """A client that is merely slow is waited for."""
    slots = make(slow_watcher=60.0)
    await slots.write(Reader(59.0), pb.WatchProgressResponse())

    with pytest.raises(errors.SlowConsumer):
        await slots.write(Reader(61.0), pb.WatchProgressResponse())


def of(name: str, peers: int = 2) -> caller.Caller:
    """Return one of two callers, or of more."""
    return caller.Caller(name, peers)


def hold(slots: streams.StreamSlots, held: contextlib.ExitStack, by: caller.Caller, count: int) -> int:
    """Open streams of different jobs; returns how many of *count* got a slot."""
    for number in range(count):
        try:
            held.enter_context(slots.slot(f"{by.name}{number}", by))
        except errors.TooManyWatchers:
            return number
    return count


async def test_a_caller_gets_all_places_when_it_is_the_only_one() -> None:
    """Named or not."""
    for only in (caller.UNNAMED, of("a", peers=1)):
        slots = make(max_watchers=12)
        with contextlib.ExitStack() as held:
            assert hold(slots, held, only, 20) == 12


async def test_other_callers_get_their_places_when_one_opens_as_many_as_it_can() -> None:
    """A quarter of the places is reserved for each of two callers; the other half is for both."""
    slots = make(max_watchers=12)

    with contextlib.ExitStack() as held:
        assert hold(slots, held, of("a"), 20) == 9
        with pytest.raises(errors.TooManyWatchers) as refused, slots.slot("more", of("a")):
            pass
        assert hold(slots, held, of("b"), 20) == 3

    assert (refused.value.limit, refused.value.caller) == ("caller", "a")
    assert 5.0 <= refused.value.retry_after <= 15.0


async def test_a_caller_gets_its_places_when_several_others_hold_what_they_can() -> None:
    """However many they are."""
    slots = make(max_watchers=24)

    with contextlib.ExitStack() as held:
        taken = [hold(slots, held, of(name, peers=3), 50) for name in "abc"]

    assert taken == [16, 4, 4]


async def test_a_callers_place_is_free_again_when_its_stream_has_ended() -> None:
    """For the caller itself, and in the half for all."""
    slots = make(max_watchers=12)

    for _ in range(3):
        with contextlib.ExitStack() as held:
            assert hold(slots, held, of("a"), 20) == 9


async def test_the_places_of_a_job_are_counted_by_caller_when_several_watch_it() -> None:
    """One caller's watchers leave the other's alone."""
    slots = make(max_watchers_per_job=1)

    with slots.slot("job", of("a")), slots.slot("job", of("b")), pytest.raises(errors.TooManyWatchers) as refused:
        slots.slot("job", of("a")).__enter__()

    assert refused.value.limit == "job"
