"""What someone without a token can make the service hold, over real connections and by raw frames."""

import asyncio
import contextlib
import hashlib
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from indexer_service.interceptors import base, open_methods, pacing
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from tests import clockwork, edge, fake_backend, http2, servers, values
from tests.unit.indexer_service import contexts

LONG = 20.0
TOKEN = "a-token"
PATH = f"{base.PREFIX}ListChannels"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
BEARER = (("authorization", f"Bearer {TOKEN}"),)
SHORT: dict[str, Any] = {"receive_timeout": 0.2}
MAX_ID = str(2**64 - 1)


class Raw:
    """A connection on which the test decides each frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self.found: list[http2.Frame] = []

    async def send(self, data: bytes) -> None:
        """Send."""
        self._writer.write(data)
        await self._writer.drain()

    async def read_until(self, wanted: Callable[[list[http2.Frame]], bool]) -> list[http2.Frame]:
        """Read frames, and answer those that need it, until all frames so far are what is wanted."""
        async with asyncio.timeout(LONG):
            while not wanted(self.found):
                data = await self._reader.read(65_536)
                assert data, "the server closed the connection"
                self._buffer += data
                answer, found = http2.replies(self._buffer)
                self.found += found
                await self.send(answer)
        return self.found

    async def read_to_end(self) -> None:
        """Read until the server closes the connection."""
        async with asyncio.timeout(LONG):
            with contextlib.suppress(ConnectionError):
                while data := await self._reader.read(65_536):
                    self._buffer += data
                    await self.send(http2.replies(self._buffer)[0])


@contextlib.asynccontextmanager
async def connection(address: str, opening: bytes = http2.PREFACE) -> AsyncIterator[Raw]:
    """Open a connection and send the beginning."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        raw = Raw(reader, writer)
        await raw.send(opening)
        yield raw
    finally:
        writer.close()


@pytest.fixture
def tokens(tmp_path: pathlib.Path) -> pathlib.Path:
    """A tokens file with one token."""
    file = tmp_path / "tokens"
    file.write_text(f"shop {hashlib.sha256(TOKEN.encode()).hexdigest()} index,read,credentials 1000/1\n")
    return file


@contextlib.asynccontextmanager
async def serving(**given: Any) -> AsyncIterator[str]:  # noqa: ANN401 -- any setting
    """Serve one user without anything indexed."""
    backend = fake_backend.make(clockwork.ManualClock())
    await backend.add_user([values.user_guild()])
    async with edge.serving(backend, **given) as address:
        yield address


def ended(stream: int) -> Callable[[list[http2.Frame]], bool]:
    """Return a condition: the server has ended the stream."""
    return lambda found: any(
        number == stream and (kind == http2.RST_STREAM or (kind == http2.HEADERS and flags & http2.END_STREAM))
        for kind, flags, number, _ in found
    )


@pytest.mark.parametrize("name", [method.name for method in base.SERVICE.methods])
async def test_a_call_is_refused_before_its_request_arrives_when_it_has_no_token(
    tokens: pathlib.Path, name: str
) -> None:
    """For every method: the headers are enough, and the bytes that follow are not read."""
    async with (
        serving(service_tokens_file=tokens, receive_timeout=LONG) as address,
        connection(address, http2.opening()) as raw,
    ):
        await raw.send(http2.headers(1, base.PREFIX + name))
        await raw.send(http2.message(1, b"x" * 1000, length=60_000, flags=0))

        found = await raw.read_until(ended(1))

    assert any(b"a valid service token is required" in payload for _, _, stream, payload in found if stream == 1)


async def test_calls_are_answered_when_strangers_wait_for_their_refusals(
    tokens: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals beyond the burst wait, on all connections together; a call with a token passes them."""
    monkeypatch.setattr(pacing, "BURST", 3)
    monkeypatch.setattr(pacing, "INTERVAL", 1000.0)
    body = pb.ListChannelsRequest(user_id=str(values.USER)).SerializeToString()
    async with (
        serving(service_tokens_file=tokens) as address,
        connection(address, http2.opening()) as first,
        connection(address, http2.opening()) as second,
    ):
        await first.send(http2.headers(1, PATH) + http2.headers(3, PATH) + http2.headers(5, PATH))
        await first.read_until(lambda found: all(ended(each)(found) for each in (1, 3, 5)))
        await second.send(http2.headers(1, PATH) + http2.headers(3, PATH, BEARER) + http2.message(3, body))
        found = await second.read_until(ended(3))

    assert not ended(1)(found)


@pytest.mark.clockwork
async def test_refusals_keep_their_pace_when_many_calls_have_no_token() -> None:
    """A burst at once, then one after the other; one that is cancelled costs the others nothing."""
    clock, refused = clockwork.running_clock(), []

    async def refuse(_request: object, _context: object) -> None:
        refused.append(clock.elapsed)

    pace = pacing.PacingInterceptor(lambda _: False, lambda: clock.elapsed)
    call = pace.wrap(base.Method("", "", streams=False), refuse)
    clock.advance(1000.0)
    context: Any = contexts.Context()
    calls = [asyncio.ensure_future(call(None, context)) for _ in range(pacing.BURST + 4)]
    await asyncio.sleep(0)
    calls[pacing.BURST + 1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    waits = [round((at - 1000.0) / pacing.INTERVAL) for at in refused]
    assert waits == [0] * pacing.BURST + [1, 2, 3]


@pytest.mark.parametrize("sent", [pytest.param(b"", id="headers-alone"), pytest.param(b"x" * 1000, id="half")])
async def test_a_call_ends_when_its_request_does_not_arrive_in_time(tokens: pathlib.Path, sent: bytes) -> None:
    """A caller with a token gets SLOW_SENDER."""
    async with (
        serving(service_tokens_file=tokens, **SHORT) as address,
        connection(address, http2.opening()) as raw,
    ):
        await raw.send(http2.headers(1, PATH, BEARER))
        if sent:
            await raw.send(http2.message(1, sent, length=60_000, flags=0))

        found = await raw.read_until(ended(1))

    assert any(b"did not arrive in time" in payload for _, _, stream, payload in found if stream == 1)


async def test_a_request_is_missing_when_the_caller_sends_none(tokens: pathlib.Path) -> None:
    """The call ends as an invalid argument."""
    async with (
        serving(service_tokens_file=tokens) as address,
        connection(address, http2.opening()) as raw,
    ):
        await raw.send(http2.headers(1, PATH, BEARER) + http2.frame(http2.DATA, http2.END_STREAM, 1))

        found = await raw.read_until(ended(1))

    assert any(b"is missing" in payload for _, _, stream, payload in found if stream == 1)


async def test_a_call_is_answered_when_its_caller_sends_more_than_one_request(tokens: pathlib.Path) -> None:
    """The first one counts; the others are never read."""
    body = pb.ListChannelsRequest(user_id=str(values.USER)).SerializeToString()
    async with (
        serving(service_tokens_file=tokens, receive_timeout=LONG) as address,
        connection(address, http2.opening()) as raw,
    ):
        await raw.send(http2.headers(1, PATH, BEARER) + http2.message(1, body, flags=0) * 2)

        found = await raw.read_until(ended(1))

    assert [payload for kind, _, stream, payload in found if (kind, stream) == (http2.DATA, 1)]


def largest_requests() -> list[Any]:
    """Return the largest request of each method that has a large one, by the bounds of its fields."""
    ids = [MAX_ID] * 200
    return [
        pb.UpdatePreferencesRequest(
            user_id=MAX_ID,
            preferences=pb.Preferences(pinned_guild_ids=ids, muted_guild_ids=ids),
            request_id="r" * 64,
        ),
        pb.PutCredentialRequest(
            user_id=MAX_ID, access_token="a" * 2048, refresh_token="r" * 2048, scopes=["s" * 100] * 50
        ),
        pb.GetRateLimitsRequest(user_ids=[MAX_ID] * 1000),
    ]


@pytest.mark.parametrize("request_", largest_requests(), ids=lambda each: type(each).__name__)
def test_the_largest_request_fits_when_the_limit_is_the_smallest_allowed(request_: Any) -> None:  # noqa: ANN401 -- any request
    """Also one with a thousand ids."""
    smallest = next(
        rule.ge for rule in settings.ServiceSettings.model_fields["max_request_bytes"].metadata if hasattr(rule, "ge")
    )

    assert request_.ByteSize() < smallest


async def test_a_request_is_refused_when_it_is_longer_than_the_limit() -> None:
    """One byte below, it is answered by the method."""
    async with serving() as address, grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(PATH, bytes, bytes)
        # Field 3, name_prefix, has a limit of its own, which names it.
        codes = {}
        for length in (65_536, 65_537):
            body = b"\x1a" + bytes([(length - 4) & 127 | 128, (length - 4) >> 7 & 127 | 128, (length - 4) >> 14])
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(body + b"x" * (length - 4), timeout=LONG)
            codes[length] = refused.value.code()

    assert codes == {65_536: grpc.StatusCode.INVALID_ARGUMENT, 65_537: grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_a_connection_has_a_hundred_streams_when_no_setting_says_otherwise() -> None:
    """The server says so in its first frame, and clients keep to it."""
    async with serving() as address, connection(address, http2.opening()) as raw:
        found = await raw.read_until(lambda found: bool(http2.settings_in(found)))

    assert http2.settings_in(found)[http2.MAX_CONCURRENT_STREAMS] == 100


async def test_a_stream_takes_in_little_when_its_request_is_not_read() -> None:
    """A call may wait for its refusal."""
    async with serving() as address, connection(address, http2.opening()) as raw:
        found = await raw.read_until(lambda found: bool(http2.settings_in(found)))

    assert http2.settings_in(found)[http2.INITIAL_WINDOW_SIZE] == 4096


async def test_a_connection_is_closed_at_once_when_the_process_has_its_most() -> None:
    """Those that are open stay."""
    async with (
        serving(max_connections=2) as address,
        connection(address, http2.opening()) as first,
        connection(address, http2.opening()) as second,
    ):
        for each in (first, second):
            await each.read_until(lambda found: bool(http2.settings_in(found)))
        async with connection(address, b"") as third:
            await third.read_to_end()
        await first.send(http2.headers(1, PATH) + http2.message(1, b""))
        await first.read_until(ended(1))


@pytest.mark.parametrize(
    ("opening", "given"),
    [
        pytest.param(b"", {"handshake_timeout": 0.2}, id="nothing-sent"),
        pytest.param(http2.opening(), {"connection_idle": 0.2}, id="no-call"),
        pytest.param(http2.opening(), {"connection_age": 0.2, "max_stream_age": 0.1}, id="old"),
    ],
)
async def test_a_connection_is_closed_when_it_does_nothing_or_is_old(opening: bytes, given: dict[str, float]) -> None:
    """By three limits: for the handshake, without a call, and by age."""
    async with serving(**given) as address, connection(address, opening) as raw:
        await raw.read_to_end()


async def test_a_watcher_outlives_its_connections_age_when_its_own_age_is_not_over(tokens: pathlib.Path) -> None:
    """A connection gets no new calls then; its streams end by themselves."""
    backend = fake_backend.make(clockwork.ManualClock())
    await backend.add_user([values.user_guild()])
    job = await backend.start_job()
    given: dict[str, Any] = {"service_tokens_file": tokens, "connection_age": 0.2}
    async with edge.serving(backend, **given) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = pb_grpc.IndexerServiceStub(channel)
        stream = stub.WatchProgress(pb.WatchProgressRequest(job_id=job.job_id), metadata=BEARER, timeout=LONG)
        await stream.read()
        async with asyncio.timeout(LONG):
            while channel.get_state() is not grpc.ChannelConnectivity.IDLE:
                await channel.wait_for_state_change(channel.get_state())
        await stub.CancelJob(pb.CancelJobRequest(job_id=job.job_id), metadata=BEARER, timeout=LONG)
        while not (await stream.read()).HasField("terminal"):
            pass


def health_call(channel: grpc.aio.Channel) -> Any:  # noqa: ANN401 -- untyped
    """Open a stream of health changes."""
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=LONG)


async def refused(stream: Any) -> bool:  # noqa: ANN401 -- untyped
    """Return whether a stream is refused in place of answered."""
    try:
        await stream.read()
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, [False] * 8 + [True], id="one-peer"),
        pytest.param({"max_health_streams": 2}, [False, False] + [True] * 7, id="all"),
    ],
)
async def test_a_stream_of_health_changes_is_refused_when_enough_are_open(
    given: dict[str, int], expected: list[bool]
) -> None:
    """Eight for one peer, also over several connections; a place is free again when its stream ends."""
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(**given))
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in range(3)
        ]
        streams, found = [], []
        for number in range(9):
            streams.append(health_call(channels[number % 3]))
            found.append(await refused(streams[-1]))
        streams[0].cancel()
        async with asyncio.timeout(LONG):
            while await refused(health_call(channels[0])):
                pass

    assert found == expected


async def test_a_stream_of_health_changes_ends_when_it_is_old() -> None:
    """Clients open a new one."""
    async with serving(max_health_stream_age=0.2) as address, grpc.aio.insecure_channel(address) as channel:
        stream = health_call(channel)
        first = await stream.read()
        last = await stream.read()

    assert first.status == health_pb2.HealthCheckResponse.SERVING
    assert last is grpc.aio.EOF  # type: ignore[attr-defined]  # missing in the stubs


async def test_a_health_check_is_refused_when_too_many_are_half_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until their time to arrive is over."""
    monkeypatch.setattr(open_methods, "RECEIVE", 0.5)
    async with (
        serving(max_health_calls=2) as address,
        connection(address, http2.opening()) as raw,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for stream in (1, 3, 5):
            await raw.send(http2.headers(stream, CHECK) + http2.message(stream, b"x", length=60_000, flags=0))
        await raw.read_until(ended(5))
        before = [stream for stream in (1, 3) if ended(stream)(raw.found)]
        await raw.read_until(lambda found: ended(1)(found) and ended(3)(found))
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=LONG)

    assert before == []
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("method", [CHECK, WATCH])
async def test_the_probe_port_has_the_same_limits_when_it_is_served(method: str) -> None:
    """Kubernetes reaches it without TLS, and so may others."""
    port = servers.free_port()
    async with (
        serving(probe_port=port, max_health_calls=1, max_health_streams=1),
        connection(f"127.0.0.1:{port}", http2.opening()) as raw,
    ):
        for stream in (1, 3):
            await raw.send(http2.headers(stream, method))
        found = await raw.read_until(ended(3))

    assert http2.settings_in(found)[http2.MAX_CONCURRENT_STREAMS] == 100
    assert not ended(1)(found)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_request_is_refused_when_it_unpacks_beyond_the_limit(compression: grpc.Compression) -> None:
    """64 KiB of zeros compressed a thousandfold would be 64 MiB."""
    async with serving() as address, grpc.aio.insecure_channel(address, compression=compression) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await channel.unary_unary(PATH, bytes, bytes)(b"\x00" * (1 << 20), timeout=LONG)

    assert found.value.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}
