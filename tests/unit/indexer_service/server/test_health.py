"""What Kubernetes' probes are told."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from indexer_service.server import health
from tests import servers

NAME = "indexer_service.v1.IndexerService"


async def asked(port: int) -> dict[str, int]:
    """Ask for liveness and readiness, as the kubelet does."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answers = {}
        for name in ("", NAME):
            request = health_pb2.HealthCheckRequest(service=name)
            answers[name] = (await stub.Check(request, timeout=5.0, wait_for_ready=True)).status
        return answers


async def test_only_readiness_ends_when_the_process_begins_to_leave() -> None:
    """A pod that drains takes no new calls, and is not killed for it."""
    port = servers.free_port()
    async with health.serving(port, NAME) as leave:
        before = await asked(port)
        await leave()
        after = await asked(port)

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert before == {"": serving, NAME: serving}
    assert after == {"": serving, NAME: not_serving}


async def test_nothing_listens_when_the_port_is_zero() -> None:
    """On a laptop the gRPC address itself answers health."""
    async with health.serving(0, NAME) as leave:
        await leave()


async def test_a_port_that_is_taken_is_an_error_when_the_probe_begins() -> None:
    """Two processes must not answer for each other."""
    port = servers.free_port()
    async with health.serving(port, NAME):
        with pytest.raises(RuntimeError):
            await health.serving(port, NAME).__aenter__()
