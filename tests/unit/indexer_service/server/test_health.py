"""The answers to Kubernetes' probes."""

import asyncio

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from indexer_service.server import health
from indexing import settings
from tests import servers

NAME = "indexer_service.v1.IndexerService"


def probes(port: int) -> settings.ServiceSettings:
    """Return the settings of probes on a port."""
    return settings.ServiceSettings(probe_port=port)


async def probe(port: int) -> dict[str, int]:
    """Return the status of liveness and readiness."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answers = {}
        for name in ("", NAME):
            request = health_pb2.HealthCheckRequest(service=name)
            answers[name] = (await stub.Check(request, timeout=5.0, wait_for_ready=True)).status
        return answers


async def test_only_readiness_ends_when_the_process_drains() -> None:
    """A draining pod gets no new calls and is not killed."""
    port = servers.free_port()
    async with health.serve_probes(probes(port)) as set_ready:
        before = await probe(port)
        await set_ready(False)
        after = await probe(port)

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert before == {"": serving, NAME: serving}
    assert after == {"": serving, NAME: not_serving}


async def test_nothing_listens_when_the_port_is_zero() -> None:
    """The gRPC address answers health checks as well."""
    async with health.serve_probes(probes(0)) as set_ready:
        await set_ready(False)


async def test_probes_raise_an_error_when_the_port_is_taken() -> None:
    """Two processes must not share a port."""
    port = servers.free_port()
    async with health.serve_probes(probes(port)):
        with pytest.raises(RuntimeError):
            await health.serve_probes(probes(port)).__aenter__()


async def test_readiness_follows_its_reason_when_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On both addresses; liveness does not, and each change is logged once, with the reason."""
    monkeypatch.setattr(health, "READINESS_INTERVAL", 0.01)
    port, api_port = servers.free_port(), servers.free_port()
    reasons = {"now": ""}
    healthy = health.Health()
    server = grpc.aio.server()
    healthy.add_to(server)
    server.add_insecure_port(f"127.0.0.1:{api_port}")
    await server.start()
    await healthy.set_serving()
    found = []
    with structlog.testing.capture_logs() as logged:
        async with (
            health.serve_probes(probes(port)) as set_ready,
            health.reporting_readiness(lambda: reasons["now"], healthy, set_ready),
        ):
            for reason in ("", "Redis is a replica (READONLY)", ""):
                reasons["now"] = reason
                await asyncio.sleep(0.1)
                found.append((await probe(port), await probe(api_port)))
    await server.stop(None)

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    ready, unready = {"": serving, NAME: serving}, {"": serving, NAME: not_serving}
    assert found == [(ready, ready), (unready, unready), (ready, ready)]
    assert [(line["event"], line["reason"]) for line in logged] == [
        ("not_ready", "Redis is a replica (READONLY)"),
        ("ready_again", "Redis is a replica (READONLY)"),
    ]
