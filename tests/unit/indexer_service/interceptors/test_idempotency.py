"""The same request id gets the same response."""

import contextlib
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from indexer_service import caller
from indexer_service.interceptors import idempotency
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.domain import id_sets
from tests import clockwork, fakes
from tests.unit.indexer_service import contexts
from tests.unit.indexer_service.interceptors import calls

ID = str(uuid.UUID(int=7))
KEY = b"k" * 32


PRESENT = 10
"""The guild of which every user is a member."""


def interceptor_of(store: fakes.MemoryIdempotencyStore, key: bytes = KEY) -> idempotency.IdempotencyInterceptor:
    """Return an interceptor over a store."""

    async def memberships(_user_id: int) -> bytes:
        return id_sets.pack_ids([PRESENT])

    return idempotency.IdempotencyInterceptor(store, [key], clockwork.ManualClock(), memberships)


class Bench:
    """A server with one method, which counts its calls."""

    def __init__(self, answer: Callable[[int], Any]) -> None:
        self.calls = 0
        self.trailing: tuple[tuple[str, str], ...] = ()
        self.store = fakes.MemoryIdempotencyStore()
        self._answer = answer

    async def call(self, request: Any, method: str = "StartIndexing") -> Any:  # noqa: ANN401 -- any message
        """Call a method through the interceptor."""

        async def behave(_request: object, _context: object) -> Any:  # noqa: ANN401 -- any message
            self.calls += 1
            return self._answer(self.calls)

        interceptor = interceptor_of(self.store)
        context = contexts.Context()
        response = await calls.wrap(interceptor, behave, method)(request, context)
        self.trailing = context.trailing
        return response


def started(number: int) -> pb.StartIndexingResponse:
    """Return the response to a start, with a number as its job id."""
    return pb.StartIndexingResponse(job=pb.Job(job_id=str(number)), disposition=pb.DISPOSITION_CREATED)


def start(request_id: str = ID, **fields: Any) -> pb.StartIndexingRequest:  # noqa: ANN401 -- any field
    """Return a request."""
    return pb.StartIndexingRequest(user_id="1", request_id=request_id, **fields)


async def test_the_first_response_is_replayed_when_a_request_is_repeated() -> None:
    """It is the same; the metadata say that it is a replay, and the handler runs once."""
    bench = Bench(started)

    first = await bench.call(start())
    first_trailing = bench.trailing
    second = await bench.call(start())

    assert bench.calls == 1
    assert second == first
    assert (first_trailing, bench.trailing) == ((), (("idempotent-replayed", "true"),))


async def test_every_request_counts_when_it_has_no_id() -> None:
    """An empty id means no deduplication."""
    bench = Bench(started)

    answers = [await bench.call(start("")) for _ in range(2)]

    assert [answer.job.job_id for answer in answers] == ["1", "2"]


async def test_an_id_is_refused_when_another_request_has_used_it() -> None:
    """The response to another request would be wrong."""
    bench = Bench(started)
    await bench.call(start())

    with pytest.raises(errors.RequestIdReused):
        await bench.call(start(force=True))

    assert bench.calls == 1


async def test_methods_do_not_share_responses_when_they_share_an_id() -> None:
    """Each has its own."""
    bench = Bench(lambda number: started(number) if number == 1 else pb.CancelJobResponse())

    await bench.call(start())
    cancelled = await bench.call(pb.CancelJobRequest(job_id="1", request_id=ID), "CancelJob")

    assert (bench.calls, cancelled) == (2, pb.CancelJobResponse())


async def test_nothing_is_stored_when_a_call_fails() -> None:
    """The next try may succeed."""

    def flaky(number: int) -> pb.StartIndexingResponse:
        if number == 1:
            raise errors.StoreUnavailable("away")
        return started(number)

    bench = Bench(flaky)
    with pytest.raises(errors.StoreUnavailable):
        await bench.call(start())

    assert (await bench.call(start())).job.job_id == "2"


async def test_nothing_is_stored_when_the_id_is_no_uuid() -> None:
    """The handler refuses it, with the other wrong fields of the request."""
    bench = Bench(started)

    answers = [await bench.call(start("seven")) for _ in range(2)]

    assert [answer.job.job_id for answer in answers] == ["1", "2"]


async def test_a_left_guild_is_not_in_a_replay() -> None:
    """The stored response is as old as a day, and the user may have left a guild since."""
    rows = [pb.JobGuild(guild_id=str(guild_id), name="guild") for guild_id in (9, PRESENT, 11)]
    bench = Bench(lambda _: pb.StartIndexingResponse(guilds=rows))

    first = await bench.call(start())
    second = await bench.call(start())

    assert [row.guild_id for row in first.guilds] == ["9", "10", "11"]
    assert [row.guild_id for row in second.guilds] == ["10"]


async def test_no_token_is_stored_when_a_credential_is_put() -> None:
    """Only a keyed hash of the request is stored."""
    bench = Bench(lambda _: pb.PutCredentialResponse())
    put = pb.PutCredentialRequest(user_id="1", access_token="the-secret", request_id=ID)

    await bench.call(put, "PutCredential")

    kept = await bench.store.find([f"PutCredential:{ID}"])
    assert kept is not None
    assert b"secret" not in kept.fingerprint + kept.response
    other = interceptor_of(bench.store, b"o" * 32)
    assert kept.fingerprint not in other._fingerprints(put)


@pytest.mark.parametrize("method", ["GetJob", "WatchProgress", "NoSuchMethod"])
async def test_methods_are_not_wrapped_when_they_have_no_request_id(method: str) -> None:
    """They change nothing, so repeating them is safe."""

    async def behave(_request: object, _context: object) -> None:
        raise AssertionError

    interceptor = interceptor_of(fakes.MemoryIdempotencyStore())

    assert calls.wrap(interceptor, behave, method) is behave


async def test_the_same_response_is_replayed_when_the_handler_returned_bytes() -> None:
    """Bytes are stored like any message."""
    bench = Bench(lambda number: started(number).SerializeToString())

    first = await bench.call(start())
    again = await bench.call(start())

    assert pb.StartIndexingResponse.FromString(first) == started(1)
    assert again == started(1)
    assert bench.calls == 1


@pytest.mark.parametrize(
    ("method", "request_", "response", "user_id"),
    [
        pytest.param("StartIndexing", start(), started(1), 1, id="of-the-request"),
        pytest.param("CancelJob", pb.CancelJobRequest(request_id=ID), pb.CancelJobResponse(), None, id="no-user"),
        pytest.param(
            "CancelJob",
            pb.CancelJobRequest(request_id=ID),
            pb.CancelJobResponse(job=pb.Job(user_id="5")),
            5,
            id="of-the-job",
        ),
        pytest.param(
            "DeleteUserData",
            pb.DeleteUserDataRequest(user_id="5", request_id=ID),
            pb.DeleteUserDataResponse(removed={"users": 1}),
            None,
            id="erased",
        ),
    ],
)
async def test_a_response_is_stored_with_its_user_when_it_describes_one(
    method: str,
    request_: Any,  # noqa: ANN401 -- any message
    response: Any,  # noqa: ANN401 -- any message
    user_id: int | None,
) -> None:
    """Erasing the user erases it; only the response of the erasure stays, because it says nothing about the user."""
    bench = Bench(lambda _: response)

    await bench.call(request_, method)
    await bench.call(request_, method)

    kept = await bench.store.find([f"{method}:{ID}"])
    assert kept is not None
    assert kept.user_id == user_id
    assert bench.calls == 1


async def call_as(bench: Bench, name: str, request: pb.StartIndexingRequest) -> Any:  # noqa: ANN401 -- any message
    """Call as a named caller."""
    with contextlib.ExitStack() as noted:
        before = caller.current()
        caller.note(caller.Caller(name, peers=2))
        noted.callback(caller.note, before)
        return await bench.call(request)


async def test_a_request_id_is_the_callers_own_when_another_uses_the_same() -> None:
    """The other's call is carried out, also with another request."""
    bench = Bench(started)

    await call_as(bench, "a", start())
    other = await call_as(bench, "b", start(force=True))
    again = await call_as(bench, "a", start())

    assert bench.calls == 2
    assert (other.job.job_id, again.job.job_id) == ("2", "1")


async def test_a_named_caller_gets_the_response_when_the_previous_release_has_stored_it() -> None:
    """That release stored all responses as those of the unnamed caller."""
    bench = Bench(started)
    await bench.call(start())

    again = await call_as(bench, "a", start())

    assert (bench.calls, again.job.job_id) == (1, "1")
