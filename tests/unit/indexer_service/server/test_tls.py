"""The address as callers find it: real certificates, real connections, files that change."""

import asyncio
import contextlib
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
from tests import authority, clockwork, edge, worlds

LONG = 20.0
NAME = "indexer-service"
OURS = authority.Authority()
SERVED, RENEWED, CALLER = OURS.sign(NAME), OURS.sign(NAME), OURS.sign("shop")
STRANGERS = authority.Authority("somebody else")


@pytest.fixture
def files(tmp_path: pathlib.Path) -> authority.Files:
    """A certificate of ours in place."""
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
async def listening(given: settings.ServiceSettings) -> AsyncIterator[tuple[tls.Trust, int]]:
    """Serve with what these settings ask for; yields the port."""
    checks = tls.Trust(given)
    checks.open()
    serving = grpc.aio.server()
    pb_grpc.add_IndexerServiceServicer_to_server(Handlers(), serving)  # type: ignore[abstract]  # one method is enough
    port = checks.add_port(serving, "127.0.0.1:0")
    await serving.start()
    yield checks, port
    await serving.stop(None)


async def shown(port: int) -> bytes:
    """Return the certificate that a new connection is shown."""
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE
    anything.set_alpn_protocols(["h2"])
    _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port, ssl=anything), LONG)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


async def call(port: int, believed: bytes, own: authority.Pair | None = None) -> grpc.StatusCode:
    """Call over a new connection, with a certificate of one's own if there is one; returns how it ended."""
    credentials = grpc.ssl_channel_credentials(believed, own.key if own else None, own.certificate if own else None)
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        try:
            await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=LONG)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_callers_reach_the_service_over_tls_when_there_is_a_certificate(files: authority.Files) -> None:
    """Those who believe its authority, and nobody without TLS."""
    async with listening(config(files)) as (_, port):
        good = await call(port, OURS.pem)
        wary = await call(port, STRANGERS.pem)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as plain:
                await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=LONG)

    assert (good, wary) == (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    assert plain.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_only_callers_of_our_authority_connect_when_they_must_show_a_certificate(files: authority.Files) -> None:
    """Neither those without one, nor those with one of somebody else's."""
    async with listening(config(files, mutual=True)) as (_, port):
        found = [await call(port, OURS.pem, own) for own in (CALLER, None, STRANGERS.sign("shop"))]

    assert found == [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]


async def test_a_new_certificate_is_shown_when_the_files_change(files: authority.Files) -> None:
    """To new connections, without a restart; who is connected stays so."""
    credentials = grpc.ssl_channel_credentials(OURS.pem)
    options = [("grpc.ssl_target_name_override", NAME)]
    async with contextlib.AsyncExitStack() as stack:
        checks, port = await stack.enter_async_context(listening(config(files)))
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
        stub = pb_grpc.IndexerServiceStub(await stack.enter_async_context(channel))
        await stub.GetJob(pb.GetJobRequest(), timeout=LONG)
        before = await shown(port)
        files.write(RENEWED)
        await checks.look()
        after = [await shown(port) for _ in range(3)]
        await stub.GetJob(pb.GetJobRequest(), timeout=LONG)

    assert before == SERVED.der
    assert after == [RENEWED.der] * 3


async def test_another_authority_counts_when_its_file_changes(files: authority.Files) -> None:
    """Callers of the old one do not get in any more."""
    async with listening(config(files, mutual=True)) as (checks, port):
        files.authority.write_bytes(STRANGERS.pem)
        await checks.look()
        old = await call(port, OURS.pem, CALLER)
        new = await call(port, OURS.pem, STRANGERS.sign("shop"))

    assert (old, new) == (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)


BREAK: dict[str, tuple[Callable[[authority.Files], object], str]] = {
    "certificate-nonsense": (lambda files: files.certificate.write_bytes(b"nonsense"), "INDEXER_TLS_CERT: is no PEM"),
    "certificate-empty": (lambda files: files.certificate.write_bytes(b""), "INDEXER_TLS_CERT: is no PEM"),
    "key-nonsense": (lambda files: files.key.write_bytes(b"nonsense"), "INDEXER_TLS_KEY: is no PEM"),
    "key-of-another": (lambda files: files.key.write_bytes(RENEWED.key), "INDEXER_TLS_KEY: does not belong"),
    "key-gone": (lambda files: files.key.unlink(), "INDEXER_TLS_KEY: "),
    "authority-nonsense": (lambda files: files.authority.write_bytes(b"nonsense"), "INDEXER_TLS_CLIENT_CA: is no PEM"),
    "endless": (lambda files: files.key.write_bytes(b"x" * (file_watch.LONGEST + 1)), "INDEXER_TLS_KEY: "),
}


@pytest.mark.parametrize("how", BREAK)
async def test_the_old_certificate_stays_when_a_new_file_is_broken(files: authority.Files, how: str) -> None:
    """It is told once, by setting, with nothing of the key; when it is mended, the new one holds."""
    harm, told = BREAK[how]
    async with listening(config(files, mutual=True)) as (checks, port):
        harm(files)
        with structlog.testing.capture_logs() as logged:
            await checks.look()
            await checks.look()
        before = await call(port, OURS.pem, CALLER)
        files.write(RENEWED)
        files.authority.write_bytes(OURS.pem)
        await checks.look()
        after = await shown(port)

    assert [(each["event"], each["log_level"]) for each in logged] == [("file_refused", "error")]
    assert logged[0]["problem"].startswith(told)
    assert RENEWED.key.splitlines()[1].decode() not in repr(logged)
    assert before is grpc.StatusCode.OK
    assert after == RENEWED.der


@pytest.mark.parametrize("how", BREAK)
async def test_the_service_does_not_start_when_its_first_file_is_broken(files: authority.Files, how: str) -> None:
    """There is nothing older to go on with; the setting is named."""
    harm, told = BREAK[how]
    harm(files)
    given = config(files, mutual=True).model_dump() | {"listen": "127.0.0.1:0"}

    with pytest.raises(grpc_server.CannotListen) as refused:
        await edge.serving(worlds.world(clockwork.ManualClock()), **given).__aenter__()

    assert str(refused.value).startswith(told)


@pytest.mark.parametrize("content", [None, "", "shop 00 read 1/1"], ids=["none", "empty", "malformed"])
async def test_the_service_does_not_start_when_its_file_of_tokens_is_broken(
    tmp_path: pathlib.Path, content: str | None
) -> None:
    """Nobody could call; or, worse, everybody."""
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content)

    with pytest.raises(grpc_server.CannotListen) as refused:
        await edge.serving(worlds.world(clockwork.ManualClock()), service_tokens_file=file).__aenter__()

    assert str(refused.value).startswith("INDEXER_SERVICE_TOKENS_FILE: ")


async def test_files_are_looked_at_by_themselves_when_the_service_runs(
    files: authority.Files, tmp_path: pathlib.Path
) -> None:
    """Within the interval of the settings; also through a link that is swapped, as Kubernetes does it."""
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path)
    given = {"tls_cert": linked / "tls.crt", "tls_key": linked / "tls.key", "reload_interval": 0.01}
    (tmp_path / "new").mkdir()
    authority.Files.under(tmp_path / "new", RENEWED, OURS)
    async with edge.serving(worlds.world(clockwork.ManualClock()), **given) as address:
        port = int(address.rpartition(":")[2])
        before = await shown(port)
        (tmp_path / "swapped").symlink_to(tmp_path / "new")
        (tmp_path / "swapped").replace(linked)
        async with asyncio.timeout(LONG):
            while await shown(port) == before:
                pass
        after = await shown(port)

    assert (before, after) == (SERVED.der, RENEWED.der)


def test_a_chain_is_accepted_when_the_first_certificate_is_the_keys() -> None:
    """As authorities hand it out: one's own first."""
    tls.check(SERVED.certificate + OURS.pem, SERVED.key)
    with pytest.raises(file_watch.Unacceptable):
        tls.check(OURS.pem + SERVED.certificate, SERVED.key)
