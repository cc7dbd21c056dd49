"""The same request id gives the same answer."""

import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from indexer_service.interceptors import idempotency
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from tests import clockwork, fakes
from tests.unit.indexer_service import contexts

ID = str(uuid.UUID(int=7))
SERVICE = "/indexer_service.v1.IndexerService/"
KEY = b"k" * 32


@dataclasses.dataclass(frozen=True)
class Details:
    """What gRPC tells of a call."""

    method: str


class Bench:
    """A server with one method, which counts its calls."""

    def __init__(self, answer: Callable[[int], Any]) -> None:
        self.calls = 0
        self.store = fakes.MemoryIdempotencyStore()
        self._answer = answer

    async def call(self, request: Any, method: str = "StartIndexing") -> Any:  # noqa: ANN401 -- any message
        """Call a method through the interceptor."""

        async def behave(_request: object, _context: object) -> Any:  # noqa: ANN401 -- any message
            self.calls += 1
            return self._answer(self.calls)

        async def continuation(_: object) -> Any:  # noqa: ANN401 -- a handler
            return grpc.unary_unary_rpc_method_handler(behave)

        clock = clockwork.ManualClock()
        replays = idempotency.Replays(self.store, KEY, clock)
        wrapped: Any = await replays.intercept_service(continuation, Details(SERVICE + method))  # type: ignore[arg-type]  # a stand-in
        return await wrapped.unary_unary(request, contexts.Context())


def started(number: int) -> pb.StartIndexingResponse:
    """Return the answer of the so manieth start."""
    return pb.StartIndexingResponse(job=pb.Job(job_id=str(number)), disposition=pb.DISPOSITION_CREATED)


def start(request_id: str = ID, **fields: Any) -> pb.StartIndexingRequest:  # noqa: ANN401 -- any field
    """Return a request."""
    return pb.StartIndexingRequest(user_id="1", request_id=request_id, **fields)


async def test_the_first_answer_is_given_again_when_a_request_is_repeated() -> None:
    """It says that it is a repetition, and nothing is done twice."""
    bench = Bench(started)

    first = await bench.call(start())
    second = await bench.call(start())

    assert bench.calls == 1
    assert (first.disposition, second.disposition) == (pb.DISPOSITION_CREATED, pb.DISPOSITION_REPLAYED)
    assert second.job == first.job


async def test_every_request_counts_when_it_has_no_id() -> None:
    """The caller does not need that."""
    bench = Bench(started)

    answers = [await bench.call(start("")) for _ in range(2)]

    assert [answer.job.job_id for answer in answers] == ["1", "2"]


async def test_an_id_is_refused_when_it_comes_with_another_request() -> None:
    """Rather than an answer to a question that was not asked."""
    bench = Bench(started)
    await bench.call(start())

    with pytest.raises(errors.RequestIdReused):
        await bench.call(start(force=True))

    assert bench.calls == 1


async def test_methods_do_not_share_answers_when_they_share_an_id() -> None:
    """Each has its own."""
    bench = Bench(lambda number: started(number) if number == 1 else pb.CancelJobResponse())

    await bench.call(start())
    cancelled = await bench.call(pb.CancelJobRequest(job_id="1", request_id=ID), "CancelJob")

    assert (bench.calls, cancelled) == (2, pb.CancelJobResponse())


async def test_a_failure_is_not_kept_when_a_call_fails() -> None:
    """The next try may succeed."""

    def flaky(number: int) -> pb.StartIndexingResponse:
        if number == 1:
            raise errors.StoreUnavailable("away")
        return started(number)

    bench = Bench(flaky)
    with pytest.raises(errors.StoreUnavailable):
        await bench.call(start())

    assert (await bench.call(start())).job.job_id == "2"


async def test_a_bad_id_is_refused_when_it_is_no_uuid() -> None:
    """Before anything is done."""
    bench = Bench(started)

    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.call(start("seven"))

    assert (refused.value.field, bench.calls) == ("request_id", 0)


async def test_no_token_is_kept_when_a_credential_is_put() -> None:
    """What is kept tells nothing of the request."""
    bench = Bench(lambda _: pb.PutCredentialResponse())
    put = pb.PutCredentialRequest(user_id="1", access_token="the-secret", request_id=ID)

    await bench.call(put, "PutCredential")

    kept = await bench.store.find(f"PutCredential:{ID}")
    assert kept is not None
    assert b"secret" not in kept.fingerprint + kept.response
    assert kept.fingerprint != idempotency.Replays(bench.store, b"o" * 32, clockwork.ManualClock())._fingerprint(put)


@pytest.mark.parametrize("method", ["GetJob", "WatchProgress", "NoSuchMethod"])
async def test_methods_are_left_alone_when_they_change_nothing(method: str) -> None:
    """They may be repeated as they are."""
    handler = grpc.unary_unary_rpc_method_handler(None)  # type: ignore[arg-type]  # never called

    async def continuation(_: object) -> Any:  # noqa: ANN401 -- a handler
        return handler

    replays = idempotency.Replays(fakes.MemoryIdempotencyStore(), KEY, clockwork.ManualClock())
    calls: Awaitable[Any] = replays.intercept_service(continuation, Details(SERVICE + method))  # type: ignore[arg-type]  # a stand-in

    assert await calls is handler


async def test_the_same_answer_is_given_when_it_was_serialised_by_its_handler() -> None:
    """Bytes are kept like any message."""
    bench = Bench(lambda number: started(number).SerializeToString())

    first = await bench.call(start())
    again = await bench.call(start())

    assert pb.StartIndexingResponse.FromString(first) == started(1)
    assert (again.job.job_id, again.disposition) == ("1", pb.DISPOSITION_REPLAYED)
    assert again.reason == idempotency.REPEATED
    assert bench.calls == 1


@pytest.mark.parametrize(
    ("method", "request_", "response", "about"),
    [
        pytest.param("StartIndexing", start(), started(1), 1, id="asked-for"),
        pytest.param("CancelJob", pb.CancelJobRequest(request_id=ID), pb.CancelJobResponse(), None, id="nobody"),
        pytest.param(
            "CancelJob",
            pb.CancelJobRequest(request_id=ID),
            pb.CancelJobResponse(job=pb.Job(user_id="5")),
            5,
            id="told-of",
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
async def test_an_answer_is_kept_with_whom_it_is_about(
    method: str,
    request_: Any,  # noqa: ANN401 -- any message
    response: Any,  # noqa: ANN401 -- any message
    about: int | None,
) -> None:
    """So that it goes when he is erased; only the answer that says so outlives him, because it tells nothing of him."""
    bench = Bench(lambda _: response)

    await bench.call(request_, method)
    await bench.call(request_, method)

    kept = await bench.store.find(f"{method}:{ID}")
    assert kept is not None
    assert kept.user_id == about
    assert bench.calls == 1
