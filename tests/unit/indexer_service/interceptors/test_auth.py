"""Authentication: every method of the API is called on the real server, also those that are added later."""

import asyncio
import dataclasses
import hashlib
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog.testing
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from indexer_service import caller, file_watch
from indexer_service.interceptors import auth
from indexer_service.interceptors.auth import Scope
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import errors
from tests import clockwork, edge, fake_backend, values
from tests.unit.indexer_service import contexts
from tests.unit.indexer_service.interceptors import calls

LONG = 20.0
SOON = 0.01
"""Seconds between two loads of the tokens file in these tests."""
METHODS = [pytest.param(each, id=each.name) for each in pb.DESCRIPTOR.services_by_name["IndexerService"].methods]
EXPECTED_SCOPES = {
    "StartIndexing": "index",
    "WatchProgress": "read",
    "WatchIndex": "read",
    "WaitJob": "read",
    "GetJob": "read",
    "ListJobs": "read",
    "CancelJob": "index",
    "RetryJob": "index",
    "ListGuilds": "read",
    "ListChannels": "read",
    "GetGuild": "read",
    "GetChannel": "read",
    "BatchGetChannels": "read",
    "SearchChannels": "read",
    "PutCredential": "credentials",
    "GetCredentialStatus": "credentials",
    "RevokeCredential": "credentials",
    "DeleteUserData": "admin",
    "GetPreferences": "read",
    "UpdatePreferences": "index",
    "GetRateLimits": "read",
}
"""What docs/callers.md promises. Written by hand: a wrong entry in the interceptor's own table must fail here."""
REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def line(token: str, *scopes: str, rate: str = "1000/1", name: str = "") -> str:
    """Return a token's line in the tokens file."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f"{name or token} {digest} {','.join(scopes)} {rate}\n"


def lines() -> str:
    """Return a tokens file with a token for each scope, named after it, and `all-but-…` with all the other scopes."""
    one = [line(scope, scope) for scope in Scope]
    others = [line(f"all-but-{scope}", *(other for other in Scope if other is not scope)) for scope in Scope]
    return "".join([*one, *others, line("everything", *Scope), line("slow", *Scope, rate="2/3600")])


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with a token."""
    return (("authorization", f"Bearer {token}"),)


@dataclasses.dataclass
class Guarded:
    """A service that needs tokens."""

    channel: grpc.aio.Channel
    file: pathlib.Path
    job_id: str

    async def call(
        self,
        method: Any,  # noqa: ANN401 -- a descriptor
        metadata: tuple[tuple[str, str], ...],
    ) -> tuple[grpc.StatusCode, grpc.aio.AioRpcError | None]:
        """Call a method with an empty request; returns its code and error."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        read = message_factory.GetMessageClass(method.output_type).FromString
        try:
            if method.server_streaming:
                await self.channel.unary_stream(path, bytes, read)(b"", timeout=LONG, metadata=metadata).read()
            else:
                await self.channel.unary_unary(path, bytes, read)(b"", timeout=LONG, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code(), error
        return grpc.StatusCode.OK, None


@pytest.fixture
async def guarded(tmp_path: pathlib.Path) -> AsyncIterator[Guarded]:
    """A service with one user, whose job runs, and callers with all kinds of scopes."""
    file = tmp_path / "tokens"
    file.write_text(lines())
    backend = fake_backend.make(clockwork.ManualClock())
    await backend.add_user([values.user_guild()])
    job_id = (await backend.start_job("f" * 32)).job_id
    given = {"service_tokens_file": file, "reload_interval": SOON}
    async with edge.serving(backend, **given) as address, grpc.aio.insecure_channel(address) as channel:
        yield Guarded(channel, file, job_id)


def detail(error: grpc.aio.AioRpcError | None, kind: type[Any]) -> Any:  # noqa: ANN401 -- a message of that kind
    """Return the detail of that kind in an error."""
    call: Any = error  # the function takes calls of either kind, its stubs one
    found = kind()
    assert any(packed.Unpack(found) for packed in rpc_status.from_call(call).details)
    return found


async def read_to_end(stream: Any) -> None:  # noqa: ANN401 -- a stream of any message
    """Read a stream to its end."""
    async for _ in stream:
        pass


def test_every_method_has_its_scope() -> None:
    """A new method needs a decision about its scope, here and in the interceptor's table."""
    assert EXPECTED_SCOPES.keys() == {each.name for each in pb.DESCRIPTOR.services_by_name["IndexerService"].methods}
    assert {name: str(scope) for name, scope in auth.METHOD_SCOPES.items()} == EXPECTED_SCOPES


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_is_unauthenticated_when_its_token_is_not_valid(guarded: Guarded, method: Any) -> None:  # noqa: ANN401 -- a descriptor
    """All get the same error, so that it reveals nothing about callers and tokens."""
    strangers: list[tuple[tuple[str, str], ...]] = [
        (),
        bearer(""),
        bearer("a-guess"),
        bearer(hashlib.sha256(b"everything").hexdigest()),
        bearer("everything" + "x" * auth.MAX_HEADER),
        (*bearer("everything"), *bearer("everything")),
        (("authorization", "Basic everything"),),
        (("authorization", "everything"),),
    ]

    answers = [await guarded.call(method, metadata) for metadata in strangers]

    assert {code for code, _ in answers} == {grpc.StatusCode.UNAUTHENTICATED}
    assert len({str(error.details()) for _, error in answers if error}) == 1
    assert detail(answers[0][1], error_details_pb2.ErrorInfo).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_is_accepted_when_its_token_has_the_scope(guarded: Guarded, method: Any) -> None:  # noqa: ANN401 -- as above
    """With that one scope and no other; the error names the missing scope."""
    scope = EXPECTED_SCOPES[method.name]

    wrong, error = await guarded.call(method, bearer(f"all-but-{scope}"))
    right, _ = await guarded.call(method, bearer(scope))
    lower, _ = await guarded.call(method, (("authorization", f"bearer {scope}"),))

    info = detail(error, error_details_pb2.ErrorInfo)
    assert wrong is grpc.StatusCode.PERMISSION_DENIED
    assert (info.reason, info.domain, info.metadata["scope"]) == (
        "SCOPE_MISSING",
        "discord-channel-indexer.internal",
        scope,
    )
    assert not {right, lower} & (REFUSALS | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


async def test_a_call_is_unauthenticated_when_its_token_was_removed(guarded: Guarded) -> None:
    """For every method from the next load of the file on; other tokens stay valid."""
    guarded.file.write_text(line("admin", Scope.ADMIN))
    method = METHODS[0].values[0]
    async with asyncio.timeout(LONG):
        while (await guarded.call(method, bearer("everything")))[0] is not grpc.StatusCode.UNAUTHENTICATED:
            pass

    codes = {each.id: (await guarded.call(each.values[0], bearer("everything")))[0] for each in METHODS}
    other, _ = await guarded.call(method, bearer("admin"))

    assert set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}
    assert len(codes) == len(METHODS)
    assert other is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("left", "code", "reason"),
    [
        pytest.param(line("admin", Scope.ADMIN), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", id="token-gone"),
        pytest.param(
            line("everything", Scope.INDEX), grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING", id="scope-gone"
        ),
    ],
)
async def test_an_open_stream_ends_when_its_token_is_revoked(
    guarded: Guarded, left: str, code: grpc.StatusCode, reason: str
) -> None:
    """Within two loads of the file, even while the stream is idle; the status has the reason."""
    request = pb.WatchProgressRequest(job_id=guarded.job_id)
    stub: Any = pb_grpc.IndexerServiceStub(guarded.channel)
    stream = aiter(stub.WatchProgress(request, timeout=LONG, metadata=bearer("everything")))
    assert isinstance(await anext(stream), pb.WatchProgressResponse)

    guarded.file.write_text(left)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await read_to_end(stream)

    assert ended.value.code() is code
    assert detail(ended.value, error_details_pb2.ErrorInfo).reason == reason


async def test_an_open_stream_continues_when_its_token_stays(guarded: Guarded) -> None:
    """Also while the file is invalid, which is logged, and when other tokens change."""
    stub: Any = pb_grpc.IndexerServiceStub(guarded.channel)
    stream = stub.WatchProgress(pb.WatchProgressRequest(job_id=guarded.job_id), timeout=LONG, metadata=bearer("read"))
    await stream.read()
    method = METHODS[0].values[0]

    async with asyncio.timeout(LONG):
        with structlog.testing.capture_logs() as logged:
            guarded.file.write_text("nonsense")
            while not logged:
                await guarded.call(method, bearer("everything"))
        broken, _ = await guarded.call(method, bearer("everything"))
        guarded.file.write_text(line("read", Scope.READ) + line("new", Scope.INDEX))
        while (await guarded.call(method, bearer("new")))[0] is grpc.StatusCode.UNAUTHENTICATED:
            pass
        await stub.CancelJob(pb.CancelJobRequest(job_id=guarded.job_id), timeout=LONG, metadata=bearer("new"))
        while not (await stream.read()).HasField("terminal"):
            pass

    assert [(each["event"], each["log_level"]) for each in logged] == [("file_refused", "error")]
    assert logged[0]["problem"].startswith("INDEXER_SERVICE_TOKENS_FILE: line 1: ")
    assert broken is not grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_is_rejected_when_its_caller_exceeds_its_rate(guarded: Guarded) -> None:
    """With the delay and the quota; other callers are not affected."""
    method = METHODS[0].values[0]

    codes = [(await guarded.call(method, bearer("slow")))[0] for _ in range(2)]
    code, error = await guarded.call(method, bearer("slow"))
    other, _ = await guarded.call(method, bearer("everything"))

    (violation,) = detail(error, error_details_pb2.QuotaFailure).violations
    delay = detail(error, error_details_pb2.RetryInfo).retry_delay
    assert grpc.StatusCode.RESOURCE_EXHAUSTED not in {*codes, other}
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert detail(error, error_details_pb2.ErrorInfo).reason == "TOO_MANY_REQUESTS"
    assert violation.subject == "callers/slow"
    assert 0 < delay.seconds <= 1800


async def test_health_needs_no_token_and_reflection_is_off_when_tokens_are_required(guarded: Guarded) -> None:
    """Probes have no token; reflection is for development."""
    health = health_pb2_grpc.HealthStub(guarded.channel)
    stub = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")

    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=LONG)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ServerReflectionInfo(iter([question]), timeout=LONG, metadata=bearer("everything")).read()

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def make_interceptor(content: str) -> auth.AuthInterceptor:
    """Return an interceptor with the tokens of a file."""
    made = auth.AuthInterceptor(lambda: 0.0)
    made.load_tokens([content.encode()])
    return made


def bearer_context(token: str) -> Any:  # noqa: ANN401 -- stands for gRPC's own
    """Return the context of a call with a token."""
    context = contexts.Context()
    context.metadata = bearer(token)
    return context


async def test_a_stream_ends_at_the_next_load_when_it_swallows_a_cancellation() -> None:
    """Some libraries swallow one while they connect."""
    made = make_interceptor(lines())
    swallowed = asyncio.Event()

    async def behave(_request: object, _context: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    call: Any = calls.wrap(made, behave, "WatchProgress", streams=True)
    stream = asyncio.create_task(call(pb.WatchProgressRequest(), bearer_context("read")))
    await asyncio.sleep(0)
    made.load_tokens([line("other", Scope.READ).encode()])
    made.end_revoked_streams()
    await asyncio.wait_for(swallowed.wait(), LONG)
    assert not stream.done()

    made.end_revoked_streams()

    with pytest.raises(errors.Unauthenticated):
        await asyncio.wait_for(stream, LONG)
    assert stream.cancelling() == 0


async def test_a_stream_is_cancelled_when_its_caller_cancels_it() -> None:
    """It does not end with an error of the service."""
    made = make_interceptor(lines())

    async def behave(_request: object, _context: object) -> None:
        await asyncio.Event().wait()

    call: Any = calls.wrap(made, behave, "WatchProgress", streams=True)
    stream = asyncio.create_task(call(pb.WatchProgressRequest(), bearer_context("read")))
    await asyncio.sleep(0)
    stream.cancel()

    with pytest.raises(asyncio.CancelledError):
        await stream
    assert made._streams == set()


async def test_a_method_is_refused_to_every_token_when_it_has_no_scope() -> None:
    """Also to tokens with all scopes: a forgotten entry must not open a method."""

    async def behave(_request: object, _context: object) -> None:
        raise AssertionError

    call = calls.wrap(make_interceptor(lines()), behave, "AddedTomorrow")

    with pytest.raises(errors.ScopeMissing) as refused:
        await call(pb.GetJobRequest(), bearer_context("everything"))

    assert refused.value.scope == ""


@pytest.mark.parametrize("path", ["/other.v1.Service/Do", "/grpc.channelz.v1.Channelz/GetServers", "Do", ""])
def test_a_service_does_not_exist_when_it_is_not_public(path: str) -> None:
    """Only health and reflection need no token."""
    handler = grpc.unary_unary_rpc_method_handler(lambda *_: None)

    assert make_interceptor(lines()).wrap_handler(path, handler) is None
    assert make_interceptor(lines()).wrap_handler("/grpc.health.v1.Health/Check", handler) is handler


def test_tokens_stay_valid_when_a_new_file_is_refused() -> None:
    """The last valid file stays in force."""
    made = make_interceptor(line("known", Scope.READ))

    with pytest.raises(file_watch.InvalidFile):
        made.load_tokens([b"known half-a-line"])

    assert made._identify(bearer_context("known")).caller == "known"


async def test_no_token_is_logged_when_calls_are_refused_and_served(guarded: Guarded) -> None:
    """Neither a valid one nor a guess, which may be a mistyped token."""
    with structlog.testing.capture_logs() as logged:
        for token in ("everything", "everythink", "index"):
            for each in METHODS:
                await guarded.call(each.values[0], bearer(token))

    assert "everythin" not in repr(logged)


async def test_the_method_knows_its_caller_when_the_token_is_valid() -> None:
    """By name, and how many callers may call the method: those share what it needs."""
    seen: list[caller.Caller] = []

    async def note(_request: object, _context: object) -> None:
        seen.append(caller.current())

    interceptor = auth.AuthInterceptor(clockwork.ManualClock())
    file = line("one", "read", name="a") + line("two", "read", "index", name="a") + line("three", "read", name="b")
    interceptor.load_tokens([file.encode()])
    for token, method, streams in (
        ("one", "GetJob", False),
        ("two", "RetryJob", False),
        ("three", "WatchProgress", True),
    ):
        context = contexts.Context()
        context.metadata = bearer(token)
        await calls.wrap(interceptor, note, method, streams=streams)(object(), context)

    assert seen == [("a", 2), ("a", 1), ("b", 2)]


async def test_a_job_is_the_callers_when_it_is_started_or_joined_over_the_api(tmp_path: pathlib.Path) -> None:
    """Over the real server; a caller that joins from memory is stored once, and costs no round trip after that."""
    file = tmp_path / "tokens"
    file.write_text("".join(line(name, "index") for name in ("a", "b")))
    backend = fake_backend.make(clockwork.ManualClock())
    await backend.add_user([values.user_guild(guild_id) for guild_id in range(10, 30)])
    added: list[str] = []
    add_caller = backend.jobs.add_caller

    async def counting(job_id: str, caller: str) -> None:
        added.append(caller)
        await add_caller(job_id, caller)

    backend.jobs.add_caller = counting  # type: ignore[method-assign]  # a fake
    async with (
        edge.serving(backend, service_tokens_file=file) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub: Any = pb_grpc.IndexerServiceStub(channel)
        request = pb.StartIndexingRequest(user_id=str(values.USER), immediate_guilds=0)
        for name in ("a", "a", "a", "b", "b", "a"):
            answer = await stub.StartIndexing(request, metadata=bearer(name), timeout=LONG)

    assert (await backend.get_job(answer.job.job_id)).callers == ("a", "b")
    assert added == ["b"]
