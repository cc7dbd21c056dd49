"""When a process is ready as far as MongoDB is concerned."""

import prometheus_client
import pymongo.errors
import pytest
import structlog

from indexing.store import mongodb_watch
from indexing.telemetry import metrics
from tests import clockwork

LASTING = {
    "login": pymongo.errors.OperationFailure("Authentication failed.", 18),
    "rights": pymongo.errors.OperationFailure("not authorized", 13),
    "unsupported": pymongo.errors.OperationFailure("not implemented", 238),
}
PASSING = {
    "away": pymongo.errors.ServerSelectionTimeoutError("127.0.0.1:1: [Errno 111] Connection refused"),
    "readonly": pymongo.errors.NotPrimaryError("not primary", {"code": 10107}),
    "full": pymongo.errors.WriteError("No space left", 14031),
}


class Server:
    """What the watch sees of MongoDB: `failure` is what its next probes raise."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.clock = clockwork.ManualClock()
        self.registry = prometheus_client.CollectorRegistry()
        self.watch = mongodb_watch.MongoWatch(self._probe, metrics.ServerMetrics(self.registry), clock=self.clock)

    async def _probe(self) -> None:
        if self.failure is not None:
            raise self.failure

    def trouble(self) -> list[str]:
        """Return the kinds of trouble that the metric shows."""
        found = [sample for family in self.registry.collect() for sample in family.samples]
        return [
            sample.labels["trouble"] for sample in found if sample.name == "indexer_mongodb_trouble" and sample.value
        ]


@pytest.mark.parametrize("kind", LASTING)
async def test_a_process_is_not_ready_when_a_fault_lasts_that_waiting_does_not_mend(kind: str) -> None:
    """After 10 s, and ready again with the first good probe."""
    server = Server()
    server.failure = LASTING[kind]

    await server.watch.check()
    assert server.watch.unready_reason() == ""
    server.clock.advance(10.0)
    await server.watch.check()
    assert server.watch.unready_reason().startswith("MongoDB ")
    assert server.trouble() == [kind]

    server.failure = None
    await server.watch.check()
    assert server.watch.unready_reason() == ""
    assert server.trouble() == []


@pytest.mark.parametrize("kind", PASSING)
async def test_a_process_stays_ready_when_mongodb_is_away(kind: str) -> None:
    """For all processes are alike then; the metric shows it, and two lines are logged."""
    server = Server()
    server.failure = PASSING[kind]

    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            await server.watch.check()
            server.clock.advance(60.0)
        assert server.watch.unready_reason() == ""
        assert server.trouble() == [kind]
        server.failure = None
        await server.watch.check()

    assert [(line["event"], line.get("trouble"), line.get("seconds")) for line in lines] == [
        ("mongodb_failing", kind, None),
        ("mongodb_answers", None, 300.0),
    ]
