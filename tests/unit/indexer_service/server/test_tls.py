"""The credentials of the gRPC address, with real certificates, real connections, and files that change."""

import asyncio
import contextlib
import math
import pathlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog.testing

from indexer_service import file_watch
from indexer_service.server import grpc_server, tls
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from tests import authority, clockwork, edge, fake_backend

LONG = 20.0
NAME = "indexer-service"
OURS = authority.Authority()
SERVED, RENEWED, CALLER = OURS.sign(NAME), OURS.sign(NAME), OURS.sign("shop")
STRANGERS = authority.Authority("somebody else")


@pytest.fixture
def files(tmp_path: pathlib.Path) -> authority.Files:
    """The files of a valid certificate."""
    return authority.Files.under(tmp_path, SERVED, OURS)


def config(files: authority.Files, *, mutual: bool = False) -> settings.ServiceSettings:
    """Return the settings for these files."""
    return settings.ServiceSettings(
        tls_cert=files.certificate, tls_key=files.key, tls_client_ca=files.authority if mutual else None
    )


class Handlers(pb_grpc.IndexerServiceServicer):
    """Answers one method."""

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: ANN401, ARG002, N802 -- gRPC's
        """Answer."""
        return pb.GetJobResponse()


@contextlib.asynccontextmanager
async def listening(given: settings.ServiceSettings) -> AsyncIterator[tuple[tls.ServerCredentials, int]]:
    """Serve with the credentials of these settings; yields them and the port."""
    served = tls.ServerCredentials(given)
    served.load()
    serving = grpc.aio.server()
    pb_grpc.add_IndexerServiceServicer_to_server(Handlers(), serving)  # type: ignore[abstract]  # one method is enough
    port = served.add_port(serving, "127.0.0.1:0")
    await serving.start()
    yield served, port
    await serving.stop(None)


async def server_certificate(port: int) -> bytes:
    """Return the certificate that a new connection gets."""
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE
    anything.set_alpn_protocols(["h2"])
    _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port, ssl=anything), LONG)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


async def call(port: int, trusted: bytes, own: authority.Pair | None = None) -> grpc.StatusCode:
    """Call over a new connection, with a client certificate if there is one; returns the code."""
    credentials = grpc.ssl_channel_credentials(trusted, own.key if own else None, own.certificate if own else None)
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        try:
            await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=LONG)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_callers_reach_the_service_over_tls_when_there_is_a_certificate(files: authority.Files) -> None:
    """Callers that trust its authority, and none without TLS."""
    async with listening(config(files)) as (_, port):
        good = await call(port, OURS.pem)
        distrustful = await call(port, STRANGERS.pem)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as plain:
                await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=LONG)

    assert (good, distrustful) == (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    assert plain.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_only_callers_of_the_authority_connect_when_client_certificates_are_required(
    files: authority.Files,
) -> None:
    """Callers without a certificate or with another authority's do not."""
    async with listening(config(files, mutual=True)) as (_, port):
        found = [await call(port, OURS.pem, own) for own in (CALLER, None, STRANGERS.sign("shop"))]

    assert found == [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]


async def test_a_new_certificate_is_served_when_the_files_change(files: authority.Files) -> None:
    """To new connections, without a restart; open connections stay open."""
    credentials = grpc.ssl_channel_credentials(OURS.pem)
    options = [("grpc.ssl_target_name_override", NAME)]
    async with contextlib.AsyncExitStack() as stack:
        served, port = await stack.enter_async_context(listening(config(files)))
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
        stub = pb_grpc.IndexerServiceStub(await stack.enter_async_context(channel))
        await stub.GetJob(pb.GetJobRequest(), timeout=LONG)
        before = await server_certificate(port)
        files.write(RENEWED)
        await served.reload()
        after = [await server_certificate(port) for _ in range(3)]
        await stub.GetJob(pb.GetJobRequest(), timeout=LONG)

    assert before == SERVED.der
    assert after == [RENEWED.der] * 3


async def test_another_authority_is_accepted_when_its_file_changes(files: authority.Files) -> None:
    """Callers of the old authority cannot connect any more."""
    async with listening(config(files, mutual=True)) as (served, port):
        files.authority.write_bytes(STRANGERS.pem)
        await served.reload()
        old = await call(port, OURS.pem, CALLER)
        new = await call(port, OURS.pem, STRANGERS.sign("shop"))

    assert (old, new) == (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)


BREAK: dict[str, tuple[Callable[[authority.Files], object], str]] = {
    "certificate-nonsense": (
        lambda files: files.certificate.write_bytes(b"nonsense"),
        "INDEXER_TLS_CERT: is not a PEM",
    ),
    "certificate-empty": (lambda files: files.certificate.write_bytes(b""), "INDEXER_TLS_CERT: is not a PEM"),
    "key-nonsense": (lambda files: files.key.write_bytes(b"nonsense"), "INDEXER_TLS_KEY: is not a PEM"),
    "key-of-another": (lambda files: files.key.write_bytes(RENEWED.key), "INDEXER_TLS_KEY: does not belong"),
    "key-gone": (lambda files: files.key.unlink(), "INDEXER_TLS_KEY: "),
    "authority-nonsense": (
        lambda files: files.authority.write_bytes(b"nonsense"),
        "INDEXER_TLS_CLIENT_CA: is not a PEM",
    ),
    "endless": (lambda files: files.key.write_bytes(b"x" * (file_watch.MAX_SIZE + 1)), "INDEXER_TLS_KEY: "),
}


@pytest.mark.parametrize("how", BREAK)
async def test_the_old_certificate_stays_when_a_new_file_is_broken(files: authority.Files, how: str) -> None:
    """The error is logged once, names the setting, and shows nothing of the key; a valid file is then loaded."""
    damage, problem = BREAK[how]
    async with listening(config(files, mutual=True)) as (served, port):
        damage(files)
        with structlog.testing.capture_logs() as logged:
            await served.reload()
            await served.reload()
        before = await call(port, OURS.pem, CALLER)
        files.write(RENEWED)
        files.authority.write_bytes(OURS.pem)
        await served.reload()
        after = await server_certificate(port)

    assert [(each["event"], each["log_level"]) for each in logged] == [("file_refused", "error")]
    assert logged[0]["problem"].startswith(problem)
    assert RENEWED.key.splitlines()[1].decode() not in repr(logged)
    assert before is grpc.StatusCode.OK
    assert after == RENEWED.der


@pytest.mark.parametrize("how", BREAK)
async def test_the_service_does_not_start_when_its_first_file_is_broken(files: authority.Files, how: str) -> None:
    """There is no older content; the error names the setting."""
    damage, problem = BREAK[how]
    damage(files)
    given = config(files, mutual=True).model_dump() | {"listen": "127.0.0.1:0"}

    with pytest.raises(grpc_server.CannotListen) as refused:
        await edge.serving(fake_backend.make(clockwork.ManualClock()), **given).__aenter__()

    assert str(refused.value).startswith(problem)


@pytest.mark.parametrize("content", [None, "", "shop 00 read 1/1"], ids=["none", "empty", "malformed"])
async def test_the_service_does_not_start_when_its_tokens_file_is_invalid(
    tmp_path: pathlib.Path, content: str | None
) -> None:
    """Without valid tokens it could only reject every call, or accept every call."""
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content)

    with pytest.raises(grpc_server.CannotListen) as refused:
        await edge.serving(fake_backend.make(clockwork.ManualClock()), service_tokens_file=file).__aenter__()

    assert str(refused.value).startswith("INDEXER_SERVICE_TOKENS_FILE: ")


async def test_files_are_reloaded_when_the_service_runs(files: authority.Files, tmp_path: pathlib.Path) -> None:
    """Within the settings' interval; also when Kubernetes swaps the symbolic link above them."""
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path)
    given = {"tls_cert": linked / "tls.crt", "tls_key": linked / "tls.key", "reload_interval": 0.01}
    (tmp_path / "new").mkdir()
    authority.Files.under(tmp_path / "new", RENEWED, OURS)
    async with edge.serving(fake_backend.make(clockwork.ManualClock()), **given) as address:
        port = int(address.rpartition(":")[2])
        before = await server_certificate(port)
        (tmp_path / "swapped").symlink_to(tmp_path / "new")
        (tmp_path / "swapped").replace(linked)
        async with asyncio.timeout(LONG):
            while await server_certificate(port) == before:
                pass
        after = await server_certificate(port)

    assert (before, after) == (SERVED.der, RENEWED.der)


async def test_a_refused_file_and_the_end_of_the_certificate_are_shown(files: authority.Files) -> None:
    """For the alerts; the file is no longer refused when it is mended."""
    served = tls.ServerCredentials(config(files))
    served.load()
    assert served.expiry > 1_700_000_000
    good = files.certificate.read_bytes()

    files.certificate.write_bytes(b"broken")
    await served.reload()
    assert served.refused

    files.certificate.write_bytes(good)
    await served.reload()
    assert not served.refused


def test_without_certificates_no_end_is_shown() -> None:
    """It is infinite, which no alert is about."""
    served = tls.ServerCredentials(settings.ServiceSettings())

    assert served.expiry == math.inf
    assert not served.refused


def test_a_chain_is_accepted_when_its_first_certificate_belongs_to_the_key() -> None:
    """Authorities issue chains in that order."""
    tls.check_certificates(SERVED.certificate + OURS.pem, SERVED.key)
    with pytest.raises(file_watch.InvalidFile):
        tls.check_certificates(OURS.pem + SERVED.certificate, SERVED.key)
