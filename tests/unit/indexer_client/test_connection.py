"""How the command line gets into a service that is guarded: TLS, a certificate of its own, a token."""

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
    """An environment that says nothing of a service."""
    for name in ("TLS", "TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_NAME", "TOKEN", "TOKEN_FILE"):
        monkeypatch.delenv(f"INDEXER_CLIENT_{name}", raising=False)
    return monkeypatch


def answering(server: service.FakeService) -> service.FakeService:
    """Let a service answer what the commands below ask."""
    server.add_response("GetRateLimits", pb.GetRateLimitsResponse())
    server.add_response(
        "StartIndexing", pb.StartIndexingResponse(job=pb.Job(job_id=rows.JOB, state=pb.JOB_STATE_RUNNING))
    )
    server.add_response("WatchProgress", rows.ended(pb.Job(job_id=rows.JOB, state=pb.JOB_STATE_SUCCEEDED)))
    return server


@pytest.fixture
def guarded() -> Iterator[service.FakeService]:
    """A service with a certificate, which wants to see one of ours."""
    pair = [(SERVED.key, SERVED.certificate)]
    with service.serving(grpc.ssl_server_credentials(pair, OURS.pem, require_client_auth=True)) as played:
        yield answering(played)


@pytest.fixture
def files(tmp_path: pathlib.Path) -> authority.Files:
    """A certificate of the caller's own, and the authority that he believes."""
    return authority.Files.under(tmp_path, CALLER, OURS)


def secure(files: authority.Files) -> tuple[str, ...]:
    """Return the options that connect over TLS with a certificate of one's own."""
    return (f"--tls-ca={files.authority}", f"--tls-cert={files.certificate}", f"--tls-key={files.key}")


def test_the_token_is_shown_at_every_call_when_the_environment_has_one(
    server: service.FakeService, indexer: Indexer, environment: pytest.MonkeyPatch
) -> None:
    """At streams as well."""
    environment.setenv(connection.TOKEN_VARIABLE, f" {TOKEN}\n")
    answering(server)

    ran = indexer("index", rows.USER)

    assert (ran.code, ran.err) == (0, "")
    assert server.shown == [f"Bearer {TOKEN}"] * 2
    assert set(server.requests) == {"StartIndexing", "WatchProgress"}


def test_a_guarded_service_is_reached_when_files_say_how(
    guarded: service.FakeService, indexer: Indexer, files: authority.Files, tmp_path: pathlib.Path
) -> None:
    """Certificate, key, authority and token; by options, and by variables just the same."""
    (tmp_path / "token").write_text(TOKEN + "\n")

    ran = indexer(*secure(files), f"--token-file={tmp_path / 'token'}", "limits", address=guarded.address)

    assert (ran.code, ran.err) == (0, "")
    assert guarded.shown == [f"Bearer {TOKEN}"]


def test_a_guarded_service_is_reached_when_the_environment_says_how(
    guarded: service.FakeService, indexer: Indexer, files: authority.Files, environment: pytest.MonkeyPatch
) -> None:
    """Also under another name than its address."""
    environment.setenv("INDEXER_CLIENT_TLS_CA", str(files.authority))
    environment.setenv("INDEXER_CLIENT_TLS_CERT", str(files.certificate))
    environment.setenv("INDEXER_CLIENT_TLS_KEY", str(files.key))
    environment.setenv("INDEXER_CLIENT_TLS_NAME", "indexer-service")

    ran = indexer("limits", address=guarded.address.replace("127.0.0.1", "localhost"))

    assert (ran.code, ran.err) == (0, "")


def test_the_service_is_not_believed_when_its_authority_is_another(
    guarded: service.FakeService, indexer: Indexer, files: authority.Files, environment: pytest.MonkeyPatch
) -> None:
    """No call reaches it, and so no token."""
    environment.setenv(connection.TOKEN_VARIABLE, TOKEN)
    files.authority.write_bytes(authority.Authority("somebody else").pem)

    ran = indexer(*secure(files), "limits", address=guarded.address)

    assert ran.code == 1
    assert f"no indexer answers at {guarded.address} over TLS: is it running, with TLS and a certificate" in ran.err
    assert guarded.shown == []


@pytest.mark.parametrize("address", ["example.org:50051", "10.0.0.7:50051", "dns:///indexer:50051", "localhost.org:1"])
def test_no_token_leaves_this_machine_in_the_clear(
    indexer: Indexer, environment: pytest.MonkeyPatch, address: str
) -> None:
    """Whoever forgets TLS is told so before anything is sent."""
    environment.setenv(connection.TOKEN_VARIABLE, TOKEN)

    ran = indexer("limits", address=address)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"indexer: the token would travel in the clear to {address}: use --tls or --tls-ca\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--token-file=/none"], "--token-file: /none cannot be read (No such file", id="no-token-file"),
        pytest.param(["--tls-ca=/none"], "--tls-ca: /none cannot be read (No such file", id="no-authority"),
        pytest.param(["--tls-cert=/none"], "needs the other one of --tls-cert and --tls-key", id="no-key"),
    ],
)
def test_the_file_is_named_when_it_cannot_be_used(indexer: Indexer, arguments: list[str], told: str) -> None:
    """And nothing is sent."""
    ran = indexer(*arguments, "limits")

    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


@pytest.mark.parametrize("content", ["two words", "idx_\x1b[2J", "schlüssel"])
def test_a_token_is_refused_and_not_repeated_when_it_cannot_be_one(
    indexer: Indexer, tmp_path: pathlib.Path, content: str
) -> None:
    """The wrong file, as a rule; what stands in it may be a secret as well."""
    file = tmp_path / "token"
    file.write_text(content)

    ran = indexer(f"--token-file={file}", "limits")

    assert (ran.code, ran.err) == (2, f"indexer: --token-file: {file} holds no token, but something else\n")
