"""The actor that runs turns, and the liveness of a worker."""

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, cast

import dramatiq
import dramatiq.asyncio
import prometheus_client
import pytest
import structlog.testing
from dramatiq import middleware
from dramatiq.brokers import stub
from prometheus_client import registry

from indexing import errors, settings
from indexing.domain import turns
from indexing.messaging import queue
from tests import servers
from workers import health, worker

TURN = turns.Turn("a" * 32, 7)


class RecordingRuntime:
    """Stands in for the runtime and records its turns."""

    def __init__(self) -> None:
        self.ran: list[turns.Turn] = []

    async def run_turn(self, turn: turns.Turn) -> None:
        """Record a turn."""
        self.ran.append(turn)


@contextlib.contextmanager
def working(broker: dramatiq.Broker) -> Iterator[None]:
    """Run a worker with one thread."""
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


@pytest.mark.parametrize(
    "payload", [TURN.payload(), {**TURN.payload(), "brand_new": True}], ids=["ours", "of-a-newer-version"]
)
def test_a_turn_runs_when_its_message_arrives(payload: dict[str, object]) -> None:
    """By the names that producer and consumer share, whatever fields a newer producer adds."""
    broker = stub.StubBroker(middleware=[middleware.TimeLimit(), middleware.Retries(), worker.EventLoop()])
    runtime = RecordingRuntime()
    worker.declare_actors(broker, cast("worker.WorkerRuntime", runtime))

    with working(broker):
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs=payload, options={}
        )
        broker.enqueue(message)
        broker.join(turns.QUEUE)

    assert runtime.ran == [TURN]


def test_a_turn_is_not_retried_by_dramatiq_when_it_fails() -> None:
    """The sweeper enqueues another turn for the job; a retried message would be stale."""
    broker = stub.StubBroker(middleware=[middleware.TimeLimit(), middleware.Retries(), worker.EventLoop()])

    worker.declare_actors(broker, cast("worker.WorkerRuntime", RecordingRuntime()))

    actor = broker.get_actor(turns.ACTOR)
    assert actor.queue_name == turns.QUEUE
    assert actor.options["max_retries"] == 0
    assert actor.options["time_limit"] == worker.TIME_LIMIT_MS


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    """Settings of a worker with unreachable servers."""
    monkeypatch.setenv("DISCORD_BOT_TOKEN", "token")
    monkeypatch.setenv("INDEXER_CREDENTIAL_KEYS", "a" * 43)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{servers.free_port()}/0")
    monkeypatch.setenv("REDIS_START_TIMEOUT", "0")
    monkeypatch.setenv("MONGODB_URL", f"mongodb://127.0.0.1:{servers.free_port()}")
    monkeypatch.setenv("WORKERS_METRICS_PORT", "0")
    return settings.load()


def test_the_process_exits_when_a_server_is_unreachable_at_boot(config: settings.Settings) -> None:
    """Dramatiq ignores every other exception of a hook, and would take messages with nothing open."""
    broker = stub.StubBroker(middleware=[])
    loop = worker.EventLoop()
    loop.before_worker_boot(broker, None)

    with structlog.testing.capture_logs() as logged, pytest.raises(worker.BootFailed):
        worker.WorkerRuntime(config).before_worker_boot(broker, None)
    loop.after_worker_shutdown(broker, None)  # type: ignore[no-untyped-call]  # untyped there

    assert [line["event"] for line in logged] == ["cannot_start"]


def test_the_process_exits_when_the_middleware_is_in_the_wrong_order(config: settings.Settings) -> None:
    """Without the event loop nothing can be opened."""
    dramatiq.asyncio.set_event_loop_thread(None)

    with pytest.raises(worker.BootFailed):
        worker.WorkerRuntime(config).before_worker_boot(stub.StubBroker(middleware=[]), None)


async def test_a_failed_server_leaves_the_job_to_the_sweeper_when_a_turn_runs(config: settings.Settings) -> None:
    """The failure is logged with the job, and the message is acknowledged."""
    runtime = worker.WorkerRuntime(config)

    class Away:
        async def run_background_turn(self, _: turns.Turn) -> None:
            raise errors.StoreUnavailable("away")

    runtime._turn_runner = Away()  # type: ignore[assignment]  # stands for the use case

    with structlog.testing.capture_logs() as logged:
        await runtime.run_turn(TURN)

    assert [(line["event"], line["job"], line["reason"]) for line in logged] == [
        ("turn_failed", TURN.job_id, "STORE_UNAVAILABLE")
    ]


async def test_no_turn_runs_when_the_worker_is_not_booted(config: settings.Settings) -> None:
    """That would be a bug."""
    with pytest.raises(RuntimeError):
        await worker.WorkerRuntime(config).run_turn(TURN)


class Thread:
    """Stands in for a thread of Dramatiq."""

    def __init__(self, *, running: bool, alive: bool) -> None:
        self.running = running
        self._alive = alive

    def is_alive(self) -> bool:
        """Return whether the thread has not ended."""
        return self._alive


class Worker:
    """Stands in for Dramatiq's worker."""

    def __init__(self, broker: dramatiq.Broker, thread: Thread) -> None:
        self.broker = broker
        self.workers = (thread,)
        self.consumers = {turns.QUEUE: thread}


@pytest.mark.parametrize(("running", "live"), [(True, False), (False, True)], ids=["died", "drained"])
def test_a_worker_is_live_when_its_threads_are(config: settings.Settings, running: bool, live: bool) -> None:  # noqa: FBT001 -- parameters
    """A dead thread of Dramatiq takes no messages; a thread that was asked to stop is no failure."""
    runtime = worker.WorkerRuntime(config)
    before = runtime._is_live()
    runtime._worker = Worker(stub.StubBroker(middleware=[]), Thread(running=running, alive=False))

    assert before
    assert runtime._is_live() is live


@pytest.mark.parametrize(("running", "live"), [(True, False), (False, True)], ids=["hangs", "drained"])
def test_a_worker_is_not_live_when_a_consumer_hangs(config: settings.Settings, running: bool, live: bool) -> None:  # noqa: FBT001 -- as above
    """Its thread is alive and waits for a lost response, so no messages arrive."""
    broker = queue.make_broker(config.redis, [])
    runtime = worker.WorkerRuntime(config)
    runtime._worker = Worker(broker, Thread(running=running, alive=True))
    broker.last_heartbeat[turns.QUEUE] = time.monotonic()
    before = runtime._is_live()
    broker.last_heartbeat[turns.QUEUE] -= health.STALE + 1

    assert before
    assert runtime._is_live() is live


async def test_a_worker_is_not_live_when_its_event_loop_is_blocked(config: settings.Settings) -> None:
    """Something blocks the loop that all turns share."""
    runtime = worker.WorkerRuntime(config)
    runtime._watchdog._last_heartbeat = time.monotonic()
    before = runtime._is_live()
    runtime._watchdog._last_heartbeat -= health.STALE + 1

    assert (before, runtime._is_live()) == (True, False)


def fetch(port: int, path: str) -> tuple[int, str]:
    """Return status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_probes_return_the_current_state_when_they_are_called() -> None:
    """Liveness and readiness are independent; the metrics are served beside them."""
    to = registry.CollectorRegistry()
    prometheus_client.Counter("indexer_tried", "Tries.", registry=to).inc()
    port = servers.free_port()
    states = {"live": True, "ready": False}

    with health.serving_endpoints(
        ("", port), to, live=lambda: states["live"], unready=lambda: "" if states["ready"] else "the reason"
    ):
        reason = fetch(port, "/readyz")[1]
        first = [fetch(port, path)[0] for path in ("/livez", "/readyz")]
        states.update(live=False, ready=True)
        second = [fetch(port, path)[0] for path in ("/livez", "/readyz")]
        status, text = fetch(port, "/metrics")

    assert (first, second) == ([200, 503], [503, 200])
    assert reason == "the reason\n"
    assert status == 200
    assert "indexer_tried_total 1.0" in text


def test_the_port_is_free_again_when_the_server_has_ended() -> None:
    """A port in use is reported at once."""
    port = servers.free_port()
    to = registry.CollectorRegistry()

    for _ in range(2):
        with (
            health.serving_endpoints(("", port), to, live=lambda: True, unready=str),
            pytest.raises(OSError, match="in use"),
            health.serving_endpoints(("", port), to, live=lambda: True, unready=str),
        ):
            pass


def test_nothing_is_served_when_the_port_is_0() -> None:
    """Tests and demonstrations need no port."""
    with health.serving_endpoints(("", 0), registry.CollectorRegistry(), live=lambda: True, unready=str):
        pass
