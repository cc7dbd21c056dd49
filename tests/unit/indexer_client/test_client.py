"""Both clients against a service that answers as it is told."""

import pathlib

import grpc
import pytest

import indexer_client
from indexer_client import errors, pb
from tests import authority
from tests.unit.indexer_client import rows, service


@pytest.fixture
def token_file(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text("idx_first\n", "utf-8")
    return path


def test_the_token_is_read_again_when_its_file_changes(token_file: pathlib.Path) -> None:
    """So that a rotated token needs no restart."""
    with service.serving() as server:
        server.add_response("GetJob", pb.GetJobResponse())
        settings = indexer_client.Options(server.address, token_file=token_file)
        with indexer_client.Client(settings=settings) as client:
            client.api.GetJob(pb.GetJobRequest())
            token_file.write_text("idx_the_second", "utf-8")
            client.api.GetJob(pb.GetJobRequest())

    assert server.authorizations == ["Bearer idx_first", "Bearer idx_the_second"]


def test_a_token_is_not_sent_without_tls_when_the_service_is_elsewhere() -> None:
    """Anyone on the way could read it; nothing is sent, and the token is not repeated."""
    settings = indexer_client.Options("192.0.2.1:50051", token="idx_secret")
    with indexer_client.Client(settings=settings) as client, pytest.raises(ValueError, match="unencrypted") as refused:
        client.api.GetJob(pb.GetJobRequest())

    assert "idx_secret" not in f"{refused.value}{settings}"


async def test_pages_are_followed_to_the_last() -> None:
    """As one iterator, with a request id for nothing."""
    with service.serving() as server:
        server.add_response(
            "ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="1")], next_page_token="next")
        )
        server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="2")]))
        async with indexer_client.AsyncClient(server.address) as client:
            found = [guild.guild_id async for guild in client.guilds("7")]

    assert found == ["1", "2"]
    assert [request.page_token for request in server.requests["ListGuilds"]] == ["", "next"]


async def follow(address: str, state: indexer_client.IndexState, seen: list[str | None], *, sync: bool) -> None:
    """Keep a user's index until the service refuses it."""
    if sync:
        with indexer_client.Client(address) as client:
            for message in client.watch_index("7"):
                state.apply(message)
                seen.append(message.WhichOneof("event"))
        return
    async with indexer_client.AsyncClient(address) as asynchronous:
        async for message in asynchronous.watch_index("7"):
            state.apply(message)
            seen.append(message.WhichOneof("event"))


@pytest.mark.parametrize("sync", [False, True])
async def test_an_index_is_followed_over_streams_from_the_last_token(*, sync: bool) -> None:
    """What the user may see is kept by `IndexState`; goodbyes and broken streams are not the caller's business."""

    def changed(name: str, token: str, *, replace: bool = False) -> pb.WatchIndexResponse:
        row = pb.Channel(channel_id="5", guild_id="1", name=name)
        change = pb.GuildChange(guild_id="1", channels=[row], replace=replace)
        return pb.WatchIndexResponse(change=change, resume_token=token)

    state = indexer_client.IndexState()
    seen: list[str | None] = []
    refused = service.Refusal(grpc.StatusCode.NOT_FOUND, "user_id: user 7 is unknown")
    bookmark = pb.WatchIndexResponse(bookmark=pb.Bookmark(), resume_token="t1")
    leaving = pb.WatchIndexResponse(going_away=pb.GoingAway(), resume_token="t3")
    with service.serving() as server:
        server.add_response("WatchIndex", pb.WatchIndexResponse(reset=pb.IndexReset()), changed("a", "", replace=True))
        server.add_response("WatchIndex", changed("b", "", replace=True), bookmark, changed("c", "t2"))
        server.add_response("WatchIndex", leaving)
        server.add_response("WatchIndex", refused)
        with pytest.raises(errors.ClientError, match="unknown"):
            await follow(server.address, state, seen, sync=sync)

    assert [request.resume_token for request in server.requests["WatchIndex"]] == ["", "", "t2", "t3"]
    assert seen == ["reset", "change", "change", "bookmark", "change"]
    assert state.channels["1"]["5"].name == "c"


async def test_a_watch_goes_on_over_streams_until_the_end() -> None:
    """Each stream continues from the last token; the caller sees rows once and the end."""
    with service.serving() as server:
        server.add_response("StartIndexing", rows.started(rows.guild(0)))
        leaving = pb.WatchProgressResponse(going_away=pb.GoingAway(), resume_token="token-2")
        server.add_response("WatchProgress", rows.changed(rows.guild(1, revision=5)), leaving)
        server.add_response("WatchProgress", rows.changed(rows.guild(1, revision=5)))
        end = pb.WatchProgressResponse(terminal=pb.Terminal(job=rows.job("SUCCEEDED")))
        server.add_response("WatchProgress", end)
        async with indexer_client.AsyncClient(server.address) as client:
            events = [event.WhichOneof("event") async for event in client.watch("job")]
            job = await client.start_and_wait("7")

    assert events == ["guild", "terminal"]
    assert job.state == pb.JOB_STATE_SUCCEEDED
    assert server.requests["WatchProgress"][1].resume_token == "token-2"
    assert server.requests["StartIndexing"][0].request_id


async def test_an_error_is_typed_when_the_service_refuses() -> None:
    """With asyncio too."""
    with service.serving() as server:
        async with indexer_client.AsyncClient(server.address) as client:
            with pytest.raises(errors.NotOffered):
                await client.api.GetJob(pb.GetJobRequest())


def test_a_renewed_certificate_is_taken_up_without_a_restart(tmp_path: pathlib.Path) -> None:
    """The next call is made over a connection with the new one."""
    trusted, other = authority.Authority(), authority.Authority("other")
    own = trusted.sign("service")
    credentials = grpc.ssl_server_credentials([(own.key, own.certificate)], trusted.pem, require_client_auth=True)
    files = authority.Files.under(tmp_path, other.sign("caller"), trusted)
    tls = indexer_client.Tls(files.authority, files.certificate, files.key)
    with service.serving(credentials) as server:
        server.add_response("GetJob", pb.GetJobResponse())
        settings = indexer_client.Options(server.address, tls, retry_for=0.3, deadline=5.0)
        with indexer_client.Client(settings=settings) as client:
            with pytest.raises(errors.Unavailable):
                client.api.GetJob(pb.GetJobRequest())
            files.write(trusted.sign("caller"))

            assert client.api.GetJob(pb.GetJobRequest()) == pb.GetJobResponse()
