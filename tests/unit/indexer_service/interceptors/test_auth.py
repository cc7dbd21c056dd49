"""Who is let in: every method of the API is tried on the real server, those to come as well."""

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

from indexer_service import file_watch
from indexer_service.interceptors import auth
from indexer_service.interceptors.auth import Scope
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import errors
from tests import clockwork, edge, values, worlds
from tests.unit.indexer_service import contexts

LONG = 20.0
SOON = 0.01
"""Seconds between two looks at the file of tokens here."""
METHODS = [pytest.param(each, id=each.name) for each in pb.DESCRIPTOR.services_by_name["IndexerService"].methods]
REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def line(token: str, *scopes: str, rate: str = "1000/1", name: str = "") -> str:
    """Return the line that lets a token in."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f"{name or token} {digest} {','.join(scopes)} {rate}\n"


def lines() -> str:
    """Return a file in which each scope has a token of its name, and `all-but-…` has the others."""
    one = [line(scope, scope) for scope in Scope]
    others = [line(f"all-but-{scope}", *(other for other in Scope if other is not scope)) for scope in Scope]
    return "".join([*one, *others, line("everything", *Scope), line("slow", *Scope, rate="2/3600")])


def bearing(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with a token."""
    return (("authorization", f"Bearer {token}"),)


@dataclasses.dataclass
class Guarded:
    """A service that asks for tokens."""

    channel: grpc.aio.Channel
    file: pathlib.Path
    job_id: str

    async def refused(
        self,
        method: Any,  # noqa: ANN401 -- a descriptor
        metadata: tuple[tuple[str, str], ...],
    ) -> tuple[grpc.StatusCode, grpc.aio.AioRpcError | None]:
        """Call a method with an empty request; returns how that ended."""
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
    """A service with one user whose job runs, and callers that each open something."""
    file = tmp_path / "tokens"
    file.write_text(lines())
    world = worlds.world(clockwork.ManualClock())
    await world.add_user([values.user_guild()])
    job_id = (await world.start("f" * 32)).job_id
    given = {"service_tokens_file": file, "reload_interval": SOON}
    async with edge.serving(world, **given) as address, grpc.aio.insecure_channel(address) as channel:
        yield Guarded(channel, file, job_id)


def detail(error: grpc.aio.AioRpcError | None, kind: type[Any]) -> Any:  # noqa: ANN401 -- a message of that kind
    """Return what a refusal carries."""
    call: Any = error  # the function takes calls of either kind, its stubs one
    found = kind()
    assert any(packed.Unpack(found) for packed in rpc_status.from_call(call).details)
    return found


async def rest(stream: Any) -> None:  # noqa: ANN401 -- a stream of any message
    """Read a stream to its end."""
    async for _ in stream:
        pass


def test_every_method_has_a_scope() -> None:
    """One that is added is open to nobody until somebody says to whom."""
    assert auth.SCOPES.keys() == {each.name for each in pb.DESCRIPTOR.services_by_name["IndexerService"].methods}


@pytest.mark.parametrize("method", METHODS)
async def test_nobody_gets_in_when_his_token_does_not_count(guarded: Guarded, method: Any) -> None:  # noqa: ANN401 -- a descriptor
    """All who are unknown get one and the same answer, so that it tells nothing of names and tokens."""
    strangers: list[tuple[tuple[str, str], ...]] = [
        (),
        bearing(""),
        bearing("a-guess"),
        bearing(hashlib.sha256(b"everything").hexdigest()),
        bearing("everything" + "x" * auth.LONGEST),
        (*bearing("everything"), *bearing("everything")),
        (("authorization", "Basic everything"),),
        (("authorization", "everything"),),
    ]

    answers = [await guarded.refused(method, metadata) for metadata in strangers]

    assert {code for code, _ in answers} == {grpc.StatusCode.UNAUTHENTICATED}
    assert len({str(error.details()) for _, error in answers if error}) == 1
    assert detail(answers[0][1], error_details_pb2.ErrorInfo).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", METHODS)
async def test_a_caller_gets_in_when_its_token_opens_the_method(guarded: Guarded, method: Any) -> None:  # noqa: ANN401 -- as above
    """With the one scope of the table and no other; the refusal says which."""
    scope = auth.SCOPES[method.name]

    wrong, error = await guarded.refused(method, bearing(f"all-but-{scope}"))
    right, _ = await guarded.refused(method, bearing(scope))
    lower, _ = await guarded.refused(method, (("authorization", f"bearer {scope}"),))

    info = detail(error, error_details_pb2.ErrorInfo)
    assert wrong is grpc.StatusCode.PERMISSION_DENIED
    assert (info.reason, info.domain, info.metadata["scope"]) == ("SCOPE_MISSING", "indexer", scope)
    assert not {right, lower} & (REFUSALS | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


async def test_nobody_gets_in_when_his_token_was_taken_out(guarded: Guarded) -> None:
    """Every method is closed to it from the next look on, and open to the others."""
    guarded.file.write_text(line("admin", Scope.ADMIN))
    known = METHODS[0].values[0]
    async with asyncio.timeout(LONG):
        while (await guarded.refused(known, bearing("everything")))[0] is not grpc.StatusCode.UNAUTHENTICATED:
            pass

    codes = {each.id: (await guarded.refused(each.values[0], bearing("everything")))[0] for each in METHODS}
    other, _ = await guarded.refused(known, bearing("admin"))

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
async def test_an_open_stream_ends_when_its_token_opens_it_no_more(
    guarded: Guarded, left: str, code: grpc.StatusCode, reason: str
) -> None:
    """Within two looks at the file, although nothing happens in the stream; its caller is told why."""
    request = pb.WatchProgressRequest(job_id=guarded.job_id)
    stub: Any = pb_grpc.IndexerServiceStub(guarded.channel)
    stream = aiter(stub.WatchProgress(request, timeout=LONG, metadata=bearing("everything")))
    assert isinstance(await anext(stream), pb.WatchProgressResponse)

    guarded.file.write_text(left)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await rest(stream)

    assert ended.value.code() is code
    assert detail(ended.value, error_details_pb2.ErrorInfo).reason == reason


async def test_an_open_stream_goes_on_when_its_token_stays(guarded: Guarded) -> None:
    """Also when the file is broken for a while, which is told, and when others come and go."""
    stub: Any = pb_grpc.IndexerServiceStub(guarded.channel)
    stream = stub.WatchProgress(pb.WatchProgressRequest(job_id=guarded.job_id), timeout=LONG, metadata=bearing("read"))
    await stream.read()
    method = METHODS[0].values[0]

    async with asyncio.timeout(LONG):
        with structlog.testing.capture_logs() as logged:
            guarded.file.write_text("nonsense")
            while not logged:
                await guarded.refused(method, bearing("everything"))
        broken, _ = await guarded.refused(method, bearing("everything"))
        guarded.file.write_text(line("read", Scope.READ) + line("new", Scope.INDEX))
        while (await guarded.refused(method, bearing("new")))[0] is grpc.StatusCode.UNAUTHENTICATED:
            pass
        await stub.CancelJob(pb.CancelJobRequest(job_id=guarded.job_id), timeout=LONG, metadata=bearing("new"))
        while not (await stream.read()).HasField("terminal"):
            pass

    assert [(each["event"], each["log_level"]) for each in logged] == [("file_refused", "error")]
    assert logged[0]["problem"].startswith("INDEXER_SERVICE_TOKENS_FILE: line 1: ")
    assert broken is not grpc.StatusCode.UNAUTHENTICATED


async def test_a_caller_is_told_to_wait_when_it_asks_too_often(guarded: Guarded) -> None:
    """Until when, and that it is its own quota; others are not held up."""
    method = METHODS[0].values[0]

    codes = [(await guarded.refused(method, bearing("slow")))[0] for _ in range(2)]
    code, error = await guarded.refused(method, bearing("slow"))
    other, _ = await guarded.refused(method, bearing("everything"))

    (violation,) = detail(error, error_details_pb2.QuotaFailure).violations
    delay = detail(error, error_details_pb2.RetryInfo).retry_delay
    assert grpc.StatusCode.RESOURCE_EXHAUSTED not in {*codes, other}
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert detail(error, error_details_pb2.ErrorInfo).reason == "TOO_MANY_REQUESTS"
    assert violation.subject == "callers/slow"
    assert 0 < delay.seconds <= 1800


async def test_health_is_open_and_reflection_is_not_there_when_tokens_are_asked_for(guarded: Guarded) -> None:
    """Probes have no token; what the API looks like is nobody's business in production."""
    health = health_pb2_grpc.HealthStub(guarded.channel)
    stub = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")

    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=LONG)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ServerReflectionInfo(iter([question]), timeout=LONG, metadata=bearing("everything")).read()

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def wrapped(made: auth.Admission, path: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers
    """Return what becomes of a method's handler."""

    async def continuation(_: object) -> Any:  # noqa: ANN401 -- as above
        return handler

    details: Any = type("Details", (), {"method": path})()
    return await made.intercept_service(continuation, details)


async def handler_of(path: str) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
    """Return what becomes of a method that is there, to callers of whom one may do everything."""
    made = auth.Admission(lambda: 0.0)
    made.accept([lines().encode()])

    async def behave(_request: object, _context: object) -> str:
        return "in"

    return await wrapped(made, path, grpc.unary_unary_rpc_method_handler(behave))


async def test_a_stream_ends_at_the_next_look_when_it_swallows_the_first() -> None:
    """Libraries do so while they connect."""
    made = auth.Admission(lambda: 0.0)
    made.accept([lines().encode()])
    swallowed = asyncio.Event()

    async def behave(_request: object, _context: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    handler = await wrapped(made, f"/{auth.SERVICE}/WatchProgress", grpc.unary_stream_rpc_method_handler(behave))
    context = contexts.Context()
    context.metadata = bearing("read")
    stream = asyncio.create_task(handler.unary_stream(pb.WatchProgressRequest(), context))
    await asyncio.sleep(0)
    made.accept([line("other", Scope.READ).encode()])
    made.end_refused()
    await asyncio.wait_for(swallowed.wait(), LONG)
    assert not stream.done()

    made.end_refused()

    with pytest.raises(errors.Unauthenticated):
        await asyncio.wait_for(stream, LONG)
    assert stream.cancelling() == 0


async def test_a_stream_is_cancelled_when_its_caller_goes() -> None:
    """That is not our refusal."""
    made = auth.Admission(lambda: 0.0)
    made.accept([lines().encode()])

    async def behave(_request: object, _context: object) -> None:
        await asyncio.Event().wait()

    handler = await wrapped(made, f"/{auth.SERVICE}/WatchProgress", grpc.unary_stream_rpc_method_handler(behave))
    context = contexts.Context()
    context.metadata = bearing("read")
    stream = asyncio.create_task(handler.unary_stream(pb.WatchProgressRequest(), context))
    await asyncio.sleep(0)
    stream.cancel()

    with pytest.raises(asyncio.CancelledError):
        await stream
    assert made._streams == set()


async def test_a_method_is_closed_to_everybody_when_the_table_lacks_it() -> None:
    """Also to who has every scope: forgetting it must not open it."""
    handler = await handler_of(f"/{auth.SERVICE}/AddedTomorrow")
    context = contexts.Context()
    context.metadata = bearing("everything")

    with pytest.raises(errors.ScopeMissing) as refused:
        await handler.unary_unary(pb.GetJobRequest(), context)

    assert "open to no caller" in str(refused.value)


@pytest.mark.parametrize("path", ["/other.v1.Service/Do", "/grpc.channelz.v1.Channelz/GetServers", "Do", ""])
async def test_a_service_is_not_there_when_nobody_has_opened_it(path: str) -> None:
    """Only health and reflection ask for no token."""
    assert await handler_of(path) is None


def test_nothing_changes_when_a_new_file_is_refused() -> None:
    """Who was known stays known."""
    made = auth.Admission(lambda: 0.0)
    made.accept([line("known", Scope.READ).encode()])

    with pytest.raises(file_watch.Unacceptable):
        made.accept([b"known half-a-line"])

    context: Any = contexts.Context()
    context.metadata = bearing("known")
    assert made._admitted(context, Scope.READ).name == "known"


async def test_no_token_is_logged_when_calls_are_refused_and_served(guarded: Guarded) -> None:
    """Neither one that counts nor a guess, which may be a token with a slip of the pen."""
    with structlog.testing.capture_logs() as logged:
        for token in ("everything", "everythink", "index"):
            for each in METHODS:
                await guarded.refused(each.values[0], bearing(token))

    assert "everythin" not in repr(logged)
