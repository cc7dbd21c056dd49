"""When a process is ready as far as Redis is concerned, and what happens when Redis answers again."""

import prometheus_client
import pytest
import redis.exceptions
import structlog

from indexing import errors
from indexing.messaging import redis_connections, redis_sentinel, redis_watch
from indexing.telemetry import metrics
from tests import clockwork

READONLY = redis_connections.NotPrimary("READONLY", "127.0.0.1:1 is a replica")
FAILURES = {
    "refused": redis.exceptions.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused."),
    "timeout": redis.exceptions.TimeoutError("Timeout reading from 127.0.0.1:1"),
    "name": redis.exceptions.ConnectionError("Error -2 connecting to r:1. Name or service not known."),
    "loading": redis_connections.NotPrimary("LOADING", "LOADING Redis is loading the dataset in memory"),
    "slow": TimeoutError(),
    "full": redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.", status_code="OOM"),
    "sentinel": redis_sentinel.PrimaryUnknown('Sentinel knows no primary "main"'),
}
LASTING = {
    "login": redis.exceptions.AuthenticationError("invalid username-password pair", status_code="WRONGPASS"),
    "rights": redis.exceptions.ResponseError("ERR The user executing the script can't run this command or subcommand"),
    "certificate": redis.exceptions.ConnectionError(
        "Error 1 connecting to r:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired (_ssl.c:1006)."
    ),
    "cluster": redis.exceptions.ResponseError("MOVED 3999 127.0.0.1:6381"),
}


class Redis:
    """
    What the watch sees of Redis.

    Attributes:
        failure: What the next probes raise.
        state: What they return.
        recoveries: How often Redis answered again.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.state = 1
        self.recoveries = 0
        self.clock = clockwork.ManualClock()
        self.registry = prometheus_client.CollectorRegistry()
        self.watch = redis_watch.RedisWatch(
            self._probe, self._recover, metrics.ServerMetrics(self.registry), clock=self.clock
        )

    async def _probe(self) -> int:
        if self.failure is not None:
            raise errors.LimiterUnavailable(1.0) from self.failure
        return self.state

    async def _recover(self) -> None:
        self.recoveries += 1

    async def check_for(self, seconds: int) -> None:
        """Probe once a second for *seconds*."""
        for _ in range(seconds):
            await self.watch.check()
            self.clock.advance(1.0)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_a_process_stays_ready_when_every_other_pod_has_the_same_trouble(failure: Exception) -> None:
    """Unready pods would refuse connections in place of saying when to retry."""
    redis = Redis()
    redis.failure = failure

    await redis.check_for(600)

    assert not redis.watch.unready_reason()


async def test_a_process_is_unready_when_writes_are_refused_for_longer_than_a_failover() -> None:
    """With a reason; ready again as soon as a write succeeds."""
    redis = Redis()
    redis.failure = READONLY

    await redis.check_for(29)
    before = redis.watch.unready_reason()
    await redis.check_for(2)
    after = redis.watch.unready_reason()
    redis.failure = None
    await redis.check_for(1)

    assert (before, after) == ("", "Redis is a replica (READONLY)")
    assert not redis.watch.unready_reason()


@pytest.mark.parametrize("failure", LASTING.values(), ids=LASTING.keys())
async def test_a_process_is_unready_when_waiting_does_not_mend_the_trouble(failure: Exception) -> None:
    """A login, a right, a certificate, a cluster: within a few seconds."""
    redis = Redis()
    redis.failure = failure

    await redis.check_for(5)

    assert redis.watch.unready_reason()


async def test_a_failure_is_logged_once_when_it_lasts() -> None:
    """One line when it begins, one when its kind changes, one when it ends."""
    redis = Redis()
    with structlog.testing.capture_logs() as logged:
        for failure in (FAILURES["refused"], READONLY, None):
            redis.failure = failure
            await redis.check_for(10)

    assert [line["event"] for line in logged] == ["redis_failing", "redis_failing", "redis_answers"]
    assert [line.get("problem") for line in logged[:2]] == [
        "Redis refuses connections",
        "Redis is a replica (READONLY)",
    ]
    assert logged[2]["seconds"] == 20.0


async def test_the_metric_shows_the_kind_when_a_probe_fails() -> None:
    """And nothing when all is well."""
    redis = Redis()
    redis.failure = READONLY

    await redis.check_for(1)
    shown = redis.registry.get_sample_value("indexer_redis_trouble", {"trouble": "readonly"})
    redis.failure = None
    await redis.check_for(1)

    assert shown == 1.0
    assert redis.registry.get_sample_value("indexer_redis_trouble", {"trouble": "readonly"}) == 0.0


@pytest.mark.parametrize("trouble", ["failure", "lost-state", "turn-not-enqueued"])
async def test_a_sweep_is_requested_once_when_redis_answers_again(trouble: str) -> None:
    """Turns may be lost, or could not be enqueued, though no probe failed."""
    redis = Redis()
    await redis.check_for(3)
    none_yet = redis.recoveries

    if trouble == "failure":
        redis.failure = FAILURES["timeout"]
        await redis.check_for(3)
        redis.failure = None
    elif trouble == "lost-state":
        redis.state = 2
    else:
        redis.watch.note_failure()
    await redis.check_for(5)

    assert (none_yet, redis.recoveries) == (0, 1)


async def test_a_sweep_is_requested_again_when_the_request_fails() -> None:
    """Redis may go away in between."""
    answers: list[Exception | None] = [errors.QueueUnavailable("away"), None]

    async def probe() -> int:
        return 1

    async def recover() -> None:
        if answers and (answer := answers.pop(0)) is not None:
            raise answer

    watch = redis_watch.RedisWatch(probe, recover)
    watch.note_failure()

    for _ in range(3):
        await watch.check()

    assert answers == []
