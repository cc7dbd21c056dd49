"""The trace of one job, from the gRPC call over the queue to the stored channels, with both processes in this one."""

import asyncio
import contextlib
import json
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dramatiq
import grpc.aio
import pymongo
import pytest
from dramatiq import middleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, export
from opentelemetry.sdk.trace.export import in_memory_span_exporter

from devstack import probes, users
from indexer_service.server import app
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from indexing.messaging import queue
from indexing.telemetry import tracing
from tests import servers
from workers import worker

GUILDS = 8
CHANNELS = "GET /guilds/{guild.id}/channels"


@pytest.fixture(scope="module")
def spans() -> Iterator[in_memory_span_exporter.InMemorySpanExporter]:
    """All spans that end in this process; OpenTelemetry's provider can be set once, and is off again afterwards."""
    memory = in_memory_span_exporter.InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(memory))
    tracing.use(provider)
    yield memory
    provider.shutdown()


@pytest.fixture
def simulator() -> Iterator[str]:
    """Discord with one user."""

    def arguments(port: int, _folder: str) -> list[str]:
        world = ["--users", "1", "--guilds-per-user", str(GUILDS), "--latency", "none", "--user-limit", "40/1"]
        return [sys.executable, "-m", "devstack.simulator", "--port", str(port), *world]

    with servers._running(arguments, lambda port: probes.page_is_ok(f"http://127.0.0.1:{port}/_sim/about")) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def config(
    simulator: str, redis_settings: settings.RedisSettings, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[settings.Settings]:
    """Settings of both processes."""
    variables = {
        "DISCORD_BOT_TOKEN": "sim-bot-token",
        "DISCORD_API_BASE": f"{simulator}/api/v10",
        "INDEXER_CREDENTIAL_KEYS": "a" * 43,
        "REDIS_URL": redis_settings.url.get_secret_value(),
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": f"test-{uuid.uuid4().hex}",
        "INDEXER_LISTEN": f"127.0.0.1:{servers.free_port()}",
        "INDEXER_METRICS_PORT": "0",
        "WORKERS_METRICS_PORT": "0",
        "USER_BUDGET": "40/1",
        "LIMITER_HOLD": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield settings.load()
    with pymongo.MongoClient[dict[str, object]](mongodb_url) as client:
        client.drop_database(variables["MONGODB_DATABASE"])


@contextlib.asynccontextmanager
async def running(config: settings.Settings) -> AsyncIterator[pb_grpc.IndexerServiceStub]:
    """Run the service on this loop and a worker on its own, over the real queue."""
    runtime = worker.WorkerRuntime(config)
    broker = queue.make_broker(
        config.redis, [middleware.TimeLimit(), middleware.Retries(), worker.EventLoop(), runtime]
    )
    worker.declare_actors(broker, runtime)
    running = dramatiq.Worker(broker, worker_timeout=50, worker_threads=4)
    stop = asyncio.Event()
    serving = asyncio.create_task(app.serve_until(config, stop))
    await asyncio.to_thread(running.start)
    try:
        async with grpc.aio.insecure_channel(config.service.listen) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
            yield pb_grpc.IndexerServiceStub(channel)
    finally:
        await asyncio.to_thread(running.stop)
        stop.set()
        await asyncio.wait_for(serving, 30)


async def test_one_trace_holds_the_whole_job_when_it_crosses_the_queue(
    config: settings.Settings, simulator: str, spans: in_memory_span_exporter.InMemorySpanExporter
) -> None:
    """Every call to Discord, every turn, and commands to both servers; the caller's request id is returned."""
    (user,) = users.simulated_users(simulator, 1)
    async with running(config) as api:
        put: Any = pb.PutCredentialRequest(user_id=user.id, access_token=user.token, scopes=user.scopes)
        await api.PutCredential(put, timeout=30)  # type: ignore[misc]  # the stubs know only its blocking kin
        spans.clear()
        request = pb.StartIndexingRequest(user_id=user.id, immediate_guilds=1)
        start: Any = api.StartIndexing(request, timeout=30, metadata=(("x-request-id", "asked-1"),))
        answer = await start
        wait: Any = api.WaitJob(pb.WaitJobRequest(job_id=answer.job.job_id), timeout=60)
        ended = (await wait).job
        told = dict(await start.trailing_metadata())
        refused = await _refused(api)

    found = spans.get_finished_spans()
    root = next(span for span in found if span.name.endswith("/StartIndexing"))
    ours = [span for span in found if _trace(span) == _trace(root)]
    names = [span.name for span in ours]
    _, body = probes.read_page(f"{simulator}/_sim/stats")
    assert told["x-request-id"] == "asked-1"
    assert refused["x-request-id"] == "asked-2"
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    assert names.count("run_turn") >= 1
    assert names.count(CHANNELS) == json.loads(body)["by_route"][CHANNELS] > 1
    assert {"permit", "redis", "mongodb insert", "mongodb update"} <= set(names)
    ids = {span.context.span_id for span in ours if span.context}
    orphans = [
        span.name for span in ours if span is not root and (span.parent is None or span.parent.span_id not in ids)
    ]
    assert orphans == []
    turn = next(span for span in ours if span.name == "run_turn")
    assert any(_below(span, turn) for span in ours if span.name == CHANNELS)


async def _refused(api: pb_grpc.IndexerServiceStub) -> dict[str, Any]:
    """Ask for a job that is not there; returns the metadata of the refusal."""
    call: Any = api.GetJob(pb.GetJobRequest(job_id="f" * 32), metadata=(("x-request-id", "asked-2"),))
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    return dict(await call.trailing_metadata())


def _stored_after_they_were_fetched(spans: list[ReadableSpan]) -> bool:
    """Return whether the channels of each guild were fetched once, and written later, as the spans say."""
    fetched, stored = _guilds(spans, CHANNELS), _guilds(spans, "mongodb insert")
    calls = [span for span in spans if span.name == CHANNELS]
    return len(fetched) == len(calls) and all(stored.get(guild, 0) > at for guild, at in fetched.items())


def _guilds(spans: list[ReadableSpan], name: str) -> dict[object, int]:
    """Return when the last span of that name began, by the guild that it was about."""
    about = [((span.attributes or {}).get("guild"), span.start_time or 0) for span in spans if span.name == name]
    return {guild: at for guild, at in sorted(about, key=lambda one: one[1]) if guild}


def _trace(span: ReadableSpan) -> int:
    return span.context.trace_id if span.context else 0


def _below(span: ReadableSpan, turn: ReadableSpan) -> bool:
    return span.parent is not None and turn.context is not None and span.parent.span_id == turn.context.span_id
