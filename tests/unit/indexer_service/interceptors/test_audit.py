"""The audit line of each call, over the real server with all its interceptors."""

import json
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from indexer_service.interceptors import audit as audit_interceptor
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing.telemetry import audit
from tests import clockwork, edge, fake_backend, values
from tests.unit.indexer_service.interceptors import calls
from tests.unit.indexer_service.interceptors.test_auth import bearer, line

LONG = 20.0
USER = str(values.USER)
JOB = "f" * 32
SECRET = "a-secret-access-token"
METADATA = (*bearer("shop"), ("x-request-id", "r-1"))
Lines = Callable[[], list[dict[str, Any]]]

REQUESTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "StartIndexing": (pb.StartIndexingRequest(user_id=USER), {}),
    "WatchProgress": (pb.WatchProgressRequest(job_id=JOB), {"job": JOB}),
    "WatchIndex": (pb.WatchIndexRequest(user_id="9"), {"user": "9", "outcome": "USER_NOT_FOUND"}),
    "WaitJob": (pb.WaitJobRequest(job_id=JOB), {"job": JOB}),
    "GetJob": (pb.GetJobRequest(job_id=JOB), {"job": JOB}),
    "ListJobs": (pb.ListJobsRequest(user_id=USER), {}),
    "RetryJob": (pb.RetryJobRequest(job_id=JOB), {"job": JOB, "outcome": "NOTHING_FAILED"}),
    "CancelJob": (pb.CancelJobRequest(job_id=JOB), {"job": JOB}),
    "ListGuilds": (pb.ListGuildsRequest(user_id=USER), {}),
    "ListChannels": (pb.ListChannelsRequest(user_id=USER), {}),
    "GetGuild": (pb.GetGuildRequest(user_id=USER, guild_id="7"), {}),
    "GetChannel": (pb.GetChannelRequest(user_id=USER, channel_id="5"), {}),
    "BatchGetChannels": (pb.BatchGetChannelsRequest(user_id=USER, channel_ids=["5"]), {}),
    "SearchChannels": (pb.SearchChannelsRequest(user_id=USER, query=SECRET), {}),
    "PutCredential": (pb.PutCredentialRequest(user_id=USER, access_token=SECRET), {}),
    "GetCredentialStatus": (pb.GetCredentialStatusRequest(user_id=USER), {}),
    "RevokeCredential": (pb.RevokeCredentialRequest(user_id=USER), {}),
    "DeleteUserData": (pb.DeleteUserDataRequest(user_id=USER), {}),
    "GetPreferences": (pb.GetPreferencesRequest(user_id=USER), {}),
    "UpdatePreferences": (pb.UpdatePreferencesRequest(user_id=USER), {}),
    "GetRateLimits": (pb.GetRateLimitsRequest(user_ids=[USER, "8"]), {"users": f"{USER},8"}),
}
"""A request of each method, and what its line has beside caller, method, user, outcome and request id."""


@pytest.fixture
def lines(tmp_path: pathlib.Path) -> Iterator[Lines]:
    """Returns the audit lines so far."""
    file = tmp_path / "audit"
    audit.configure(str(file), 1 << 20, 2)
    yield lambda: [json.loads(each) for each in file.read_text().splitlines()]
    audit.configure(audit.OFF, 10_000, 2)


@pytest.fixture
async def channel(tmp_path: pathlib.Path, lines: Lines) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to a service with one user, whose job has ended, and with callers `shop`, `reader` and `slow`."""
    assert lines() == []
    file = tmp_path / "tokens"
    every = ("index", "read", "credentials", "admin")
    file.write_text(line("shop", *every) + line("reader", "read") + line("slow", *every, rate="1/3600"))
    backend = fake_backend.make(clockwork.ManualClock())
    await backend.add_user([values.user_guild()])
    await backend.start_job(JOB)
    async with (
        edge.serving(backend, service_tokens_file=file) as address,
        grpc.aio.insecure_channel(address) as opened,
    ):
        stub: Any = pb_grpc.IndexerServiceStub(opened)
        await stub.CancelJob(pb.CancelJobRequest(job_id=JOB), metadata=bearer("shop"), timeout=LONG)
        yield opened


async def call(channel: grpc.aio.Channel, name: str, metadata: tuple[tuple[str, str], ...] = METADATA) -> None:
    """Call a method with its request, to the end; errors are no matter here."""
    method = getattr(pb_grpc.IndexerServiceStub(channel), name)
    found = method(REQUESTS[name][0], metadata=metadata, timeout=LONG)
    try:
        if name in {"WatchProgress", "WatchIndex"}:
            async for _ in found:
                pass
        else:
            await found
    except grpc.aio.AioRpcError:
        pass


def test_every_method_is_tried() -> None:
    """A new method needs a line too."""
    assert REQUESTS.keys() == {each.name for each in pb.DESCRIPTOR.services_by_name["IndexerService"].methods}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_call_leaves_one_line_when_it_has_ended(channel: grpc.aio.Channel, lines: Lines, name: str) -> None:
    """Who did what to whom, how it ended, and under which request id; nothing else of the request."""
    before = len(lines())

    await call(channel, name)

    (found,) = lines()[before:]
    assert found.pop("timestamp")
    assert found.pop("seconds") >= 0
    expected = {"event": "call", "logger": "audit", "caller": "shop", "method": name, "request_id": "r-1"}
    more = REQUESTS[name][1]
    if name not in {"GetRateLimits", "RetryJob"}:
        expected["user"] = USER
    if name in {"StartIndexing", "PutCredential", "GetGuild", "GetChannel"}:
        assert found.pop("outcome")
    else:
        expected["outcome"] = "OK"
    assert found == {**expected, **more}
    assert SECRET not in json.dumps(found)


@pytest.mark.parametrize(
    ("method", "fields", "logged"),
    [
        pytest.param("GetJob", {"job_id": SECRET}, {"job": "invalid"}, id="job"),
        pytest.param("ListGuilds", {"user_id": SECRET}, {"user": "invalid"}, id="user"),
        pytest.param("GetRateLimits", {"user_ids": [USER, SECRET]}, {"users": f"{USER},invalid"}, id="users"),
    ],
)
async def test_a_line_repeats_no_text_when_it_is_no_id(
    channel: grpc.aio.Channel, lines: Lines, method: str, fields: dict[str, Any], logged: dict[str, str]
) -> None:
    """A caller that confuses fields may send a token there."""
    before = len(lines())
    request = getattr(pb, f"{method}Request")(**fields)

    with pytest.raises(grpc.aio.AioRpcError):
        await getattr(pb_grpc.IndexerServiceStub(channel), method)(request, metadata=METADATA, timeout=LONG)

    (found,) = lines()[before:]
    assert logged.items() <= found.items()
    assert SECRET not in json.dumps(found)


async def test_a_job_names_the_caller_who_cancelled_it(channel: grpc.aio.Channel) -> None:
    """The fixture cancels it with the token of `shop`."""
    stub: Any = pb_grpc.IndexerServiceStub(channel)

    found = await stub.GetJob(pb.GetJobRequest(job_id=JOB), metadata=bearer("reader"), timeout=LONG)

    assert found.job.cancelled_by == "shop"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param(bearer("reader"), [("reader", "SCOPE_MISSING")], id="no-scope"),
        pytest.param(bearer("a-guess"), [], id="no-token"),
    ],
)
async def test_a_refused_call_leaves_a_line_when_its_caller_is_known(
    channel: grpc.aio.Channel, lines: Lines, metadata: tuple[tuple[str, str], ...], expected: list[tuple[str, str]]
) -> None:
    """A stranger cannot fill the file."""
    before = len(lines())

    await call(channel, "DeleteUserData", metadata)

    assert [(each["caller"], each["outcome"]) for each in lines()[before:]] == expected


async def test_a_call_leaves_no_line_when_its_caller_exceeds_its_rate(channel: grpc.aio.Channel, lines: Lines) -> None:
    """So the rate bounds the file too."""
    before = len(lines())

    for _ in range(3):
        await call(channel, "ListGuilds", bearer("slow"))

    assert [each["caller"] for each in lines()[before:]] == ["slow"]


async def test_a_call_leaves_no_line_when_it_concerns_no_user(channel: grpc.aio.Channel, lines: Lines) -> None:
    """The limits of the fleet are nobody's data."""
    before = len(lines())
    stub: Any = pb_grpc.IndexerServiceStub(channel)

    await stub.GetRateLimits(pb.GetRateLimitsRequest(), metadata=METADATA, timeout=LONG)

    assert lines()[before:] == []


async def test_a_line_says_internal_when_a_handler_breaks(lines: Lines) -> None:
    """The log has the details."""

    async def behave(_request: object, _context: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await calls.wrap(audit_interceptor.AuditInterceptor(), behave)(None, None)

    assert [(each["method"], each["outcome"]) for each in lines()] == [("GetJob", "INTERNAL")]
