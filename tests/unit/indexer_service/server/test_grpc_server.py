"""The addresses that the service listens on."""

import socket
from typing import Any

import pytest
import structlog.testing

from indexer_service import interceptors
from indexer_service.server import grpc_server
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from tests import clockwork, edge, fake_backend, fakes


@pytest.mark.parametrize("listen", ["127.0.0.1:50051", "127.8.9.10:1", "localhost:0", "[::1]:50051"])
def test_an_address_is_accepted_when_it_is_loopback(listen: str) -> None:
    """Only this machine can reach it."""
    grpc_server.check_address(settings.ServiceSettings(listen=listen))


TLS: dict[str, Any] = {"tls_cert": "/tls.crt", "tls_key": "/tls.key"}
TOKENS: dict[str, Any] = {"service_tokens_file": "/tokens"}


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:50051", "[::]:50051", "10.0.0.7:50051", "example.org:50051", "localhost.example.org:50051"]
)
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        pytest.param({}, "set INDEXER_TLS_CERT and INDEXER_TLS_KEY, and INDEXER_SERVICE_TOKENS_FILE,", id="nothing"),
        pytest.param(TLS, "set INDEXER_SERVICE_TOKENS_FILE,", id="tls-alone"),
        pytest.param({**TLS, "tls_client_ca": "/ca.crt"}, "set INDEXER_SERVICE_TOKENS_FILE,", id="mtls-alone"),
        pytest.param(TOKENS, "set INDEXER_TLS_CERT and INDEXER_TLS_KEY,", id="tokens-alone"),
    ],
)
def test_an_address_is_refused_when_others_could_reach_it(listen: str, given: dict[str, Any], missing: str) -> None:
    """Unless callers need tokens and TLS, or the operator accepts the risk."""
    with pytest.raises(grpc_server.CannotListen) as refused:
        grpc_server.check_address(settings.ServiceSettings(listen=listen, **given))

    assert str(refused.value).startswith(f"INDEXER_LISTEN: {listen} ")
    assert missing in str(refused.value)
    grpc_server.check_address(settings.ServiceSettings(listen=listen, insecure=True, **given))
    grpc_server.check_address(settings.ServiceSettings(listen=listen, **TLS, **TOKENS))


@pytest.mark.parametrize(("listen", "times"), [("0.0.0.0:0", 1), ("127.0.0.1:0", 0)])
async def test_a_warning_is_logged_when_others_can_reach_an_unguarded_address(listen: str, times: int) -> None:
    """It says what is missing."""
    with structlog.testing.capture_logs() as logged:
        async with edge.serving(fake_backend.make(clockwork.ManualClock()), listen=listen, insecure=True):
            pass

    warnings = [each for each in logged if each["event"] == "insecure"]
    assert [(each["log_level"], each["tls"], each["tokens"]) for each in warnings] == [
        ("warning", False, False)
    ] * times


async def test_the_setting_is_named_when_the_port_is_taken() -> None:
    """Two services must not share a port."""

    async def no_memberships(_user_id: int) -> bytes:
        return b""

    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = settings.ServiceSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        idempotency = interceptors.IdempotencyInterceptor(
            fakes.MemoryIdempotencyStore(),
            [b"k" * 32],
            clockwork.ManualClock(),
            no_memberships,
        )
        serving = grpc_server.serve(pb_grpc.IndexerServiceServicer(), idempotency, config, grpc_server.Lifecycle())  # type: ignore[arg-type, abstract]  # no method is called

        with pytest.raises(grpc_server.CannotListen) as refused:
            await serving.__aenter__()

    assert str(refused.value).startswith("INDEXER_LISTEN: ")
