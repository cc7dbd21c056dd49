"""Service and worker in this process, over real servers: they open, serve, and close everything."""

import asyncio
import dataclasses
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator

import dramatiq
import grpc.aio
import pymongo
import pytest
from dramatiq.brokers import stub
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from indexer_service import interceptors
from indexer_service.server import app
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import errors, settings
from indexing.domain import model, turns
from indexing.messaging import coordination, queue, redis_client
from indexing.store import database, jobs
from tests import clockwork, servers, values
from workers import refresh, scheduler, worker

REFRESH_TASKS = set(scheduler.REFRESH_TASKS)


@pytest.fixture
def config(
    redis_settings: settings.RedisSettings, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[settings.Settings]:
    """Settings of both processes, with a database of this test alone."""
    variables = {
        "DISCORD_BOT_TOKEN": "token",
        "DISCORD_API_BASE": f"http://127.0.0.1:{servers.free_port()}",
        "INDEXER_CREDENTIAL_KEYS": "a" * 43,
        "REDIS_URL": redis_settings.url.get_secret_value(),
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": f"test-{uuid.uuid4().hex}",
        "INDEXER_LISTEN": f"127.0.0.1:{servers.free_port()}",
        "INDEXER_METRICS_PORT": "0",
        "WORKERS_METRICS_PORT": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield settings.load()
    with pymongo.MongoClient[dict[str, object]](mongodb_url) as client:
        client.drop_database(variables["MONGODB_DATABASE"])


async def test_a_worker_runs_turns_when_its_servers_respond(config: settings.Settings) -> None:
    """From boot to shutdown, on Dramatiq's own loop: the turn's result is in the store."""
    broker = stub.StubBroker(middleware=[])
    loop, parts = worker.EventLoop(), worker.WorkerRuntime(config)
    loop.before_worker_boot(broker, None)
    parts.before_worker_boot(broker, None)
    thread = dramatiq.asyncio.get_event_loop_thread()
    assert thread is not None
    async with database.open_database(config.mongo) as db:
        store = jobs.Jobs(db, retention=60.0)
        await db["users"].insert_one({"_id": values.USER})
        await store.create_or_join(values.job(next_turn_at=4e9))

        await asyncio.to_thread(thread.run_coroutine, parts.run_turn(turns.Turn("a" * 32, 0)))

        job = await store.get("a" * 32)
    unready = parts._unready_reason()
    await asyncio.to_thread(parts.after_worker_shutdown, broker, None)
    loop.after_worker_shutdown(broker, None)  # type: ignore[no-untyped-call]  # untyped there
    assert not unready
    assert job is not None
    assert (job.state, job.reason) == (model.JobState.FAILED, "CREDENTIAL_MISSING")


@pytest.mark.parametrize("apart", [False, True], ids=["alone", "beside-a-process-that-refreshes"])
async def test_a_worker_refreshes_when_no_refresher_does(
    config: settings.Settings,
    apart: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """It always sweeps, so that no job stalls."""
    own = config.workers.model_copy(update={"refresh": not apart})
    broker = stub.StubBroker(middleware=[])
    loop, parts = worker.EventLoop(), worker.WorkerRuntime(dataclasses.replace(config, workers=own))
    loop.before_worker_boot(broker, None)
    parts.before_worker_boot(broker, None)
    thread = dramatiq.asyncio.get_event_loop_thread()
    assert thread is not None

    found = await asyncio.to_thread(thread.run_coroutine, running_tasks())

    await asyncio.to_thread(parts.after_worker_shutdown, broker, None)
    loop.after_worker_shutdown(broker, None)  # type: ignore[no-untyped-call]  # untyped there
    assert {"delayed_queue", "sweep"} <= found
    assert found.isdisjoint(REFRESH_TASKS) if apart else found >= REFRESH_TASKS


async def test_the_refresher_only_refreshes_when_it_runs(config: settings.Settings) -> None:
    """It neither runs turns nor sweeps."""
    async with refresh.running_refresher(config, lambda: clockwork.START):
        found = await running_tasks()

    assert found >= REFRESH_TASKS
    assert found.isdisjoint({"delayed_queue", "sweep"})


async def running_tasks() -> set[str]:
    """Return the names of the tasks on this loop."""
    return {task.get_name() for task in asyncio.all_tasks()}


class PageReader(dramatiq.Middleware):
    """Reads a worker's pages when its last thread has ended, before its components are closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.found: list[tuple[int, bytes]] = []

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002 -- their hook
        """Read the pages."""
        for path in ("metrics", "livez"):
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=10) as page:
                self.found.append((page.status, page.read()))


def test_a_worker_serves_metrics_when_it_drains(config: settings.Settings) -> None:
    """Until the end, so that a drain can be observed; it also stays live, so that no probe interrupts it."""
    port = servers.free_port()
    config = dataclasses.replace(config, workers=config.workers.model_copy(update={"metrics_port": port}))
    page_reader = PageReader(port)
    broker = queue.make_broker(config.redis, [worker.EventLoop(), worker.WorkerRuntime(config), page_reader])
    running = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)

    running.start()
    running.stop()
    broker.client.connection_pool.disconnect()

    (status, page), alive = page_reader.found
    assert status == 200
    assert b"indexer_turns_running 0.0" in page
    assert alive == (200, b"ok\n")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)


async def test_the_service_answers_over_the_wire_when_its_servers_respond(config: settings.Settings) -> None:
    """Healthy from start to drain; an error arrives with its details; it exits when asked to."""
    stop = asyncio.Event()
    running = asyncio.create_task(app.serve_until(config, stop))
    async with grpc.aio.insecure_channel(config.service.listen) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(
            health_pb2.HealthCheckRequest(service=interceptors.base.SERVICE.full_name), wait_for_ready=True, timeout=30
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(job_id="f" * 32), timeout=30)
    stop.set()
    await asyncio.wait_for(running, 30)

    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]  # the stubs know only its blocking kin
    info = error_details_pb2.ErrorInfo()
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("discord-channel-indexer.internal", "JOB_NOT_FOUND")


@pytest.mark.parametrize("away", ["REDIS_URL", "MONGODB_URL"])
async def test_the_service_does_not_start_when_a_server_is_unreachable(
    config: settings.Settings, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """The error names the server, and nothing is left open."""
    scheme = "redis" if away == "REDIS_URL" else "mongodb"
    monkeypatch.setenv(away, f"{scheme}://127.0.0.1:{servers.free_port()}")
    monkeypatch.setenv("MONGODB_TIMEOUT", "0.5")
    monkeypatch.setenv("MONGODB_START_TIMEOUT", "0.5")
    monkeypatch.setenv("REDIS_START_TIMEOUT", "0.5")

    with pytest.raises((errors.QueueUnavailable, errors.StoreUnavailable)) as problem:
        await app.serve_until(settings.load(), asyncio.Event())

    assert isinstance(problem.value, errors.QueueUnavailable if scheme == "redis" else errors.StoreUnavailable)


@pytest.mark.parametrize("away", ["redis", "mongodb"])
async def test_the_service_ends_when_it_is_stopped_while_it_waits_for_a_server(
    config: settings.Settings, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """It does not wait for the whole time first."""
    monkeypatch.setenv(f"{away.upper()}_URL", f"{away}://127.0.0.1:{servers.free_port()}")
    stop = asyncio.Event()
    running = asyncio.create_task(app.serve_until(settings.load(), stop))
    await asyncio.sleep(1.0)
    assert not running.done()

    stop.set()

    await asyncio.wait_for(running, 10.0)


async def test_a_worker_sweeps_at_once_when_a_process_requests_it(config: settings.Settings) -> None:
    """A turn that could not be enqueued goes on though no regular sweep is due."""
    broker = queue.make_broker(config.redis, [])
    loop, parts = worker.EventLoop(), worker.WorkerRuntime(config)
    loop.before_worker_boot(broker, None)
    parts.before_worker_boot(broker, None)
    async with redis_client.open_redis(config.redis) as client, database.open_database(config.mongo) as db:
        await asyncio.sleep(0.5)
        # The election of the regular sweep is over for a while.
        await coordination.LeaderLock(client).try_acquire("sweep", 60.0)
        await jobs.Jobs(db, retention=60.0).create_or_join(values.job(next_turn_at=time.time() - 1.0))  # noqa: TID251 -- of the worker's clock

        await queue.request_sweep(client)

        began = time.monotonic()
        while not await client.hlen(f"dramatiq:{turns.QUEUE}.msgs"):
            await asyncio.sleep(0.05)
            assert time.monotonic() < began + 10.0
    await asyncio.to_thread(parts.after_worker_shutdown, broker, None)
    loop.after_worker_shutdown(broker, None)  # type: ignore[no-untyped-call]  # untyped there
    broker.client.connection_pool.disconnect()
