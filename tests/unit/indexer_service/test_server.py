"""Where the service listens."""

import socket

import pytest

from indexer_service import idempotency, server
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from tests import clockwork, fakes


@pytest.mark.parametrize("listen", ["127.0.0.1:50051", "127.8.9.10:1", "localhost:0", "[::1]:50051"])
def test_an_address_is_accepted_when_it_is_loopback(listen: str) -> None:
    """Only callers on this machine reach it."""
    server.check_address(settings.ServiceSettings(listen=listen))


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:50051", "[::]:50051", "10.0.0.7:50051", "example.org:50051", "localhost.example.org:50051"]
)
def test_an_address_is_refused_when_others_could_reach_it(listen: str) -> None:
    """As long as callers are not authenticated, unless the operator says that he accepts that."""
    with pytest.raises(server.CannotListen) as refused:
        server.check_address(settings.ServiceSettings(listen=listen))

    assert "INDEXER_LISTEN" in str(refused.value)
    server.check_address(settings.ServiceSettings(listen=listen, insecure=True))


async def test_the_setting_is_named_when_the_port_is_taken() -> None:
    """Two services must not share a port by accident."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = settings.ServiceSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        replays = idempotency.Replays(fakes.MemoryRequests(), b"k" * 32, clockwork.ManualClock())
        serving = server.serving(pb_grpc.IndexerServiceServicer(), replays, config, lambda: None)  # type: ignore[arg-type, abstract]  # no method is called

        with pytest.raises(server.CannotListen) as refused:
            await serving.__aenter__()

    assert str(refused.value).startswith("INDEXER_LISTEN: ")
