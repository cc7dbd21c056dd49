"""TLS, client certificate and service token of the command line."""

import pathlib
from collections.abc import Callable, Iterator

import grpc
import pytest

from indexer_client.cli import connection
from indexer_service.v1 import indexer_pb2 as pb
from tests import authority
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]
TOKEN = "idx_a-token-of-ours"
OURS = authority.Authority()
SERVED, CALLER = OURS.sign("indexer-service"), OURS.sign("shop")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without INDEXER_CLIENT_ variables."""
    for name in ("TLS", "TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_NAME", "TOKEN", "TOKEN_FILE"):
        monkeypatch.delenv(f"INDEXER_CLIENT_{name}", raising=False)
    return monkeypatch


def answering(server: service.FakeService) -> service.FakeService:
    """Add responses for the commands below."""
    server.add_response("GetRateLimits", pb.GetRateLimitsResponse())
    server.add_response(
        "StartIndexing", pb.StartIndexingResponse(job=pb.Job(job_id=rows.JOB, state=pb.JOB_STATE_RUNNING))
    )
    server.add_response("WatchProgress", rows.ended(pb.Job(job_id=rows.JOB, state=pb.JOB_STATE_SUCCEEDED)))
    return server


@pytest.fixture
def mtls_server() -> Iterator[service.FakeService]:
    """A service with TLS that requires a client certificate."""
    pair = [(SERVED.key, SERVED.certificate)]
    with service.serving(grpc.ssl_server_credentials(pair, OURS.pem, require_client_auth=True)) as fake:
        yield answering(fake)


@pytest.fixture
def files(tmp_path: pathlib.Path) -> authority.Files:
    """Files of a client certificate and of the trusted authority."""
    return authority.Files.under(tmp_path, CALLER, OURS)


def secure(files: authority.Files) -> tuple[str, ...]:
    """Return the options for TLS with a client certificate."""
    return (f"--tls-ca={files.authority}", f"--tls-cert={files.certificate}", f"--tls-key={files.key}")


def test_every_call_carries_the_token_when_the_environment_has_one(
    server: service.FakeService, indexer: Indexer, environment: pytest.MonkeyPatch
) -> None:
    """Streaming calls carry it as well."""
    environment.setenv(connection.TOKEN_VARIABLE, f" {TOKEN}\n")
    answering(server)

    ran = indexer("index", rows.USER)

    assert (ran.code, ran.err) == (0, "")
    assert server.authorizations == [f"Bearer {TOKEN}"] * 2
    assert set(server.requests) == {"StartIndexing", "WatchProgress"}


def test_an_mtls_service_is_reached_when_options_name_the_files(
    mtls_server: service.FakeService, indexer: Indexer, files: authority.Files, tmp_path: pathlib.Path
) -> None:
    """Options name certificate, key, authority and token."""
    (tmp_path / "token").write_text(TOKEN + "\n")

    ran = indexer(*secure(files), f"--token-file={tmp_path / 'token'}", "limits", address=mtls_server.address)

    assert (ran.code, ran.err) == (0, "")
    assert mtls_server.authorizations == [f"Bearer {TOKEN}"]


def test_an_mtls_service_is_reached_when_variables_name_the_files(
    mtls_server: service.FakeService, indexer: Indexer, files: authority.Files, environment: pytest.MonkeyPatch
) -> None:
    """Variables also set a certificate name that differs from the address."""
    environment.setenv("INDEXER_CLIENT_TLS_CA", str(files.authority))
    environment.setenv("INDEXER_CLIENT_TLS_CERT", str(files.certificate))
    environment.setenv("INDEXER_CLIENT_TLS_KEY", str(files.key))
    environment.setenv("INDEXER_CLIENT_TLS_NAME", "indexer-service")

    ran = indexer("limits", address=mtls_server.address.replace("127.0.0.1", "localhost"))

    assert (ran.code, ran.err) == (0, "")


def test_nothing_is_sent_when_the_certificate_is_of_another_authority(
    mtls_server: service.FakeService, indexer: Indexer, files: authority.Files, environment: pytest.MonkeyPatch
) -> None:
    """No call reaches the service, so it does not get the token."""
    environment.setenv(connection.TOKEN_VARIABLE, TOKEN)
    files.authority.write_bytes(authority.Authority("another authority").pem)

    ran = indexer(*secure(files), "limits", address=mtls_server.address)

    assert ran.code == 1
    assert f"cannot reach the service at {mtls_server.address} over TLS; " in ran.err
    assert "check that it runs with TLS and a certificate that --tls-ca trusts" in ran.err
    assert mtls_server.authorizations == []


@pytest.mark.parametrize("address", ["example.org:50051", "10.0.0.7:50051", "dns:///indexer:50051", "localhost.org:1"])
def test_the_token_is_not_sent_when_the_connection_is_remote_and_unencrypted(
    indexer: Indexer, environment: pytest.MonkeyPatch, address: str
) -> None:
    """The command fails before it sends anything."""
    environment.setenv(connection.TOKEN_VARIABLE, TOKEN)

    ran = indexer("limits", address=address)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (f"indexer: refusing to send the service token unencrypted to {address}; use --tls or --tls-ca\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["--token-file=/none"], "--token-file: /none cannot be read (No such file", id="no-token-file"),
        pytest.param(["--tls-ca=/none"], "--tls-ca: /none cannot be read (No such file", id="no-authority"),
        pytest.param(["--tls-cert=/none"], "--tls-cert and --tls-key must be given together", id="no-key"),
    ],
)
def test_the_file_is_named_when_it_cannot_be_used(indexer: Indexer, arguments: list[str], expected: str) -> None:
    """The command sends nothing."""
    ran = indexer(*arguments, "limits")

    assert (ran.code, ran.out) == (2, "")
    assert expected in ran.err


@pytest.mark.parametrize("content", ["two words", "idx_\x1b[2J", "schlüssel"])
def test_the_token_file_is_rejected_when_it_contains_no_token(
    indexer: Indexer, tmp_path: pathlib.Path, content: str
) -> None:
    """The error does not print the content: it may be another secret."""
    file = tmp_path / "token"
    file.write_text(content)

    ran = indexer(f"--token-file={file}", "limits")

    assert (ran.code, ran.err) == (2, f"indexer: --token-file: {file} does not contain a service token\n")
