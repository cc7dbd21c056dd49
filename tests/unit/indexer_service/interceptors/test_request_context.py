"""The request id and the trace of a call."""

import pytest

from indexer_service.interceptors import request_context
from indexing.telemetry import logs, tracing
from tests.unit.indexer_service import contexts
from tests.unit.indexer_service.interceptors import calls

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def called(*metadata: tuple[str, str]) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Call a method; returns request id and carried context inside the call, and the trailing metadata."""
    context = contexts.Context()
    context.metadata = metadata
    found: list[str] = []

    async def behave(_request: object, _context: object) -> None:
        found.extend([logs.field("request_id"), tracing.serialize_context()])

    await calls.wrap(request_context.RequestContextInterceptor(), behave)(None, context)
    return found[0], found[1], context.trailing


@pytest.mark.parametrize("given", ["a", "Job_7.b-c", "x" * 64])
async def test_a_call_has_the_request_id_of_its_caller(given: str) -> None:
    """In the log and in the response, with other metadata before and after it."""
    inside, _, trailing = await called(("user-agent", "b"), ("x-request-id", given), ("x-other", "c"))

    assert (inside, trailing) == (given, (("x-request-id", given),))


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a\nb"])
async def test_a_call_has_a_new_request_id_when_its_caller_gives_no_valid_one(given: str | None) -> None:
    """32 hexadecimal digits, another for each call; what the caller sent does not reach the log."""
    metadata = [] if given is None else [("x-request-id", given)]
    found = [(await called(*metadata))[0] for _ in range(2)]

    assert [len(bytes.fromhex(each)) for each in found] == [16, 16]
    assert found[0] != found[1]


async def test_the_trace_of_the_caller_goes_on() -> None:
    """And only that of `traceparent`: other metadata begin none."""
    _, carried, _ = await called(("traceparent", PARENT))
    _, other, _ = await called(("tracestate", PARENT))

    assert carried.split(" ")[1].split("-")[1] == PARENT.split("-")[1]
    assert PARENT.split("-")[1] not in other
