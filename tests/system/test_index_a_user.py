"""Indexing a user through the API: results, watching, errors."""

import concurrent.futures
import pathlib
import re

import grpc
import pytest
import redis
from google.protobuf import duration_pb2, message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

DEADLINE = 30.0
NOT_THE_PRODUCT = {"client", "config"}
"""redis-py sends CLIENT SETINFO and ignores a refusal; CONFIG comes from the wheel that starts the server."""
DEPLOY = pathlib.Path(__file__).parents[2] / "docs/deploy.md"


def index(api: pb_grpc.IndexerServiceStub, user_id: str) -> pb.Job:
    """Index a user and return the job when it has ended."""
    started = api.StartIndexing(pb.StartIndexingRequest(user_id=user_id), timeout=DEADLINE)
    events = list(api.WatchProgress(pb.WatchProgressRequest(job_id=started.job.job_id), timeout=DEADLINE))
    return events[-1].terminal.job


def channels(api: pb_grpc.IndexerServiceStub, user_id: str) -> list[pb.Channel]:
    """Return all pages of a user's channels."""
    found: list[pb.Channel] = []
    token = ""
    while True:
        request = pb.ListChannelsRequest(user_id=user_id, page_size=40, page_token=token)
        page = api.ListChannels(request, timeout=DEADLINE)
        found += page.channels
        token = page.next_page_token
        if not token:
            return found


def test_shared_guilds_are_fetched_once_when_several_users_are_indexed(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub, discord: conftest.Simulator
) -> None:
    """The channels of a shared guild are fetched once, and Discord never answers 429."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        jobs = list(pool.map(lambda user: index(api, user.id), running.users))

    stats = discord.ask("stats")
    assert {job.state for job in jobs} == {pb.JOB_STATE_SUCCEEDED}
    assert stats["duplicate_guild_fetches"] == 0
    assert stats["http_429"] == 0


def test_channels_are_those_that_the_user_may_see_when_the_job_has_ended(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub, discord: conftest.Simulator
) -> None:
    """ListChannels returns exactly the channels that both the user and the bot can see at Discord."""
    user = running.users[0].id

    job = index(api, user)

    shown = channels(api, user)
    truth = {guild["id"]: guild for guild in discord.ask(f"truth/{user}")["guilds"]}
    assert job.state == pb.JOB_STATE_SUCCEEDED
    assert len({channel.channel_id for channel in shown}) == len(shown)
    for guild_id, guild in truth.items():
        seen = {channel.channel_id for channel in shown if channel.guild_id == guild_id}
        assert seen == (set(guild["indexable"]) if guild["bot"] else set()), guild["name"]


def test_the_response_lists_every_guild_when_indexing_starts(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub
) -> None:
    """Guilds without the bot are skipped with the reason BOT_NOT_INSTALLED."""
    answer = api.StartIndexing(pb.StartIndexingRequest(user_id=running.users[1].id), timeout=DEADLINE)

    assert answer.disposition == pb.DISPOSITION_CREATED
    assert len(answer.guilds) == running.options.guilds_per_user
    assert [row.position for row in answer.guilds] == list(range(running.options.guilds_per_user))
    skipped = [row for row in answer.guilds if row.state == pb.GUILD_STATE_SKIPPED]
    assert {row.error for row in skipped} <= {"BOT_NOT_INSTALLED"}


def test_one_job_is_created_when_several_callers_start_at_once(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub
) -> None:
    """One call creates the job, and the others join it."""
    request = pb.StartIndexingRequest(user_id=running.users[2].id, force=True)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: api.StartIndexing(request, timeout=DEADLINE), range(4)))

    assert len({answer.job.job_id for answer in answers}) == 1
    dispositions = sorted(answer.disposition for answer in answers)
    assert dispositions == [pb.DISPOSITION_CREATED, *[pb.DISPOSITION_JOINED] * 3]


def test_a_watcher_misses_nothing_when_it_reconnects_after_every_event(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub
) -> None:
    """It ends with the same guild tasks as a watcher with one stream."""
    start = pb.StartIndexingRequest(user_id=running.users[3].id, force=True, wait=duration_pb2.Duration())
    job_id = api.StartIndexing(start, timeout=DEADLINE).job.job_id
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        steady = pool.submit(lambda: _rows(api, pb.WatchProgressRequest(job_id=job_id), {}))
        rows: dict[str, pb.JobGuild] = {}
        token = ""
        ended = False
        while not ended:
            token, ended = _one_message(api, pb.WatchProgressRequest(job_id=job_id, resume_token=token), rows)

        assert {key: row.state for key, row in rows.items()} == {key: row.state for key, row in steady.result().items()}
        assert len(rows) == running.options.guilds_per_user


def test_a_watcher_gets_snapshot_and_terminal_event_when_the_job_has_ended(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub
) -> None:
    """The events are the snapshot, its end, and the terminal event."""
    job = index(api, running.users[4].id)

    kinds = [
        event.WhichOneof("event")
        for event in api.WatchProgress(pb.WatchProgressRequest(job_id=job.job_id), timeout=DEADLINE)
    ]

    assert kinds == ["snapshot", "snapshot_end", "terminal"]


def test_a_retry_fetches_only_the_failed_guild_when_a_guild_failed(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub, discord: conftest.Simulator
) -> None:
    """A guild that keeps failing ends as FAILED with its reason; RetryJob fetches that guild only."""
    user = running.users[5].id
    guild = next(row["id"] for row in discord.ask(f"truth/{user}")["guilds"] if row["bot"])
    discord.ask("faults", {"kind": "status", "status": 500, "guild": guild})
    request = pb.StartIndexingRequest(user_id=user, force=True)
    job_id = api.StartIndexing(request, timeout=DEADLINE).job.job_id
    rows = _rows(api, pb.WatchProgressRequest(job_id=job_id), {})

    failed = api.GetJob(pb.GetJobRequest(job_id=job_id), timeout=DEADLINE).job
    discord.ask("faults", method="DELETE")
    again = api.RetryJob(pb.RetryJobRequest(job_id=job_id), timeout=DEADLINE).job
    mended = _rows(api, pb.WatchProgressRequest(job_id=again.job_id), {})

    assert failed.state == pb.JOB_STATE_SUCCEEDED_WITH_ERRORS
    assert (rows[guild].state, rows[guild].error) == (pb.GUILD_STATE_FAILED, "DISCORD_TRANSIENT")
    assert {key: row.state for key, row in mended.items()} == {guild: pb.GUILD_STATE_SUCCEEDED}


def test_a_job_ends_with_reauth_required_when_discord_refuses_the_token(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub
) -> None:
    """The job fails, and the next StartIndexing answers FAILED_PRECONDITION."""
    user = "900000000000000001"
    credential = pb.PutCredentialRequest(user_id=user, access_token="not-a-token", refresh_token="nor-this-one")
    credential.expire_time.FromSeconds(1)
    stored = api.PutCredential(credential, timeout=DEADLINE)

    job = index(api, user)

    assert not stored.verified
    assert (job.state, job.error) == (pb.JOB_STATE_FAILED, "REAUTH_REQUIRED")
    with pytest.raises(grpc.RpcError) as refusal:
        api.StartIndexing(pb.StartIndexingRequest(user_id=user), timeout=DEADLINE)
    assert refusal.value.code() == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("method", "request_", "code", "field"),
    [
        pytest.param(
            "StartIndexing",
            pb.StartIndexingRequest(user_id="me"),
            "INVALID_ARGUMENT",
            "user_id",
            id="malformed user id",
        ),
        pytest.param(
            "StartIndexing",
            pb.StartIndexingRequest(user_id="80", wait=duration_pb2.Duration(seconds=11)),
            "INVALID_ARGUMENT",
            "wait",
            id="wait too long",
        ),
        pytest.param("GetJob", pb.GetJobRequest(job_id="0" * 32), "NOT_FOUND", "job_id", id="unknown job"),
        pytest.param("GetJob", pb.GetJobRequest(job_id="x"), "INVALID_ARGUMENT", "job_id", id="malformed job id"),
        pytest.param(
            "ListGuilds",
            pb.ListGuildsRequest(user_id="80", page_size=-1),
            "INVALID_ARGUMENT",
            "page_size",
            id="negative page size",
        ),
        pytest.param(
            "ListGuilds",
            pb.ListGuildsRequest(user_id="80", page_token="WzFd.forged"),
            "INVALID_ARGUMENT",
            "page_token",
            id="foreign page token",
        ),
        pytest.param(
            "StartIndexing", pb.StartIndexingRequest(user_id="80"), "FAILED_PRECONDITION", "user_id", id="no credential"
        ),
        pytest.param(
            "ListChannels", pb.ListChannelsRequest(user_id="80"), "NOT_FOUND", "user_id", id="user never seen"
        ),
    ],
)
def test_the_field_is_named_when_a_request_is_wrong(
    api: pb_grpc.IndexerServiceStub, method: str, request_: message.Message, code: str, field: str
) -> None:
    """Each invalid input has its status code, and a message that names the field."""
    with pytest.raises(grpc.RpcError) as refusal:
        getattr(api, method)(request_, timeout=DEADLINE)

    assert refusal.value.code().name == code
    assert str(refusal.value.details()).startswith(f"{field}:")
    status = rpc_status.from_call(refusal.value)  # type: ignore[arg-type]  # it is a Call too
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "discord-channel-indexer.internal"


def test_a_page_token_is_rejected_when_it_belongs_to_another_user(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub
) -> None:
    """A page token is bound to its user."""
    mine, other = running.users[0].id, running.users[1].id
    index(api, mine)
    token = api.ListGuilds(pb.ListGuildsRequest(user_id=mine, page_size=3), timeout=DEADLINE).next_page_token

    with pytest.raises(grpc.RpcError) as refusal:
        api.ListGuilds(pb.ListGuildsRequest(user_id=other, page_size=3, page_token=token), timeout=DEADLINE)

    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_health_answers_when_the_service_runs(running: stack.Stack) -> None:
    """The standard health service says SERVING."""
    with grpc.insecure_channel(running.address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="indexer_service.v1.IndexerService"), timeout=DEADLINE
        )

    assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_the_api_when_it_is_on(running: stack.Stack, version: str) -> None:
    """Under its new name and its old one; also the details of errors, so that tools can decode them."""
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
            for symbol in ("google.rpc.ErrorInfo", "indexer_service.v1.IndexerService", f"grpc.reflection.{version}")
        ),
    ]
    questions[-1].file_containing_symbol += ".ServerReflection"
    with grpc.insecure_channel(running.address) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, *described = ask(iter(questions), timeout=DEADLINE)

    names = {service.name for service in listed.list_services_response.service}
    assert names >= {"indexer_service.v1.IndexerService", f"grpc.reflection.{version}.ServerReflection"}
    assert [bool(one.file_descriptor_response.file_descriptor_proto) for one in described] == [True] * 3


def test_redis_was_sent_documented_commands_only(running: stack.Stack, api: pb_grpc.IndexerServiceStub) -> None:
    """A user with the rights of docs/deploy.md can run every command of the service and the workers."""
    index(api, running.users[0].id)
    documented = set(re.findall(r"\+([a-z]+)", DEPLOY.read_text("utf-8").partition("resetkeys")[2].partition("```")[0]))

    with redis.Redis.from_url(running.redis_url) as client:
        sent = {name.removeprefix("cmdstat_").partition("|")[0] for name in client.info("commandstats")}

    assert {"eval", "evalsha", "zadd"} <= sent
    assert sent - documented - NOT_THE_PRODUCT == set()


def _rows(
    api: pb_grpc.IndexerServiceStub, request: pb.WatchProgressRequest, rows: dict[str, pb.JobGuild]
) -> dict[str, pb.JobGuild]:
    for event in api.WatchProgress(request, timeout=DEADLINE):
        _take(event, rows)
    return rows


def _one_message(
    api: pb_grpc.IndexerServiceStub, request: pb.WatchProgressRequest, rows: dict[str, pb.JobGuild]
) -> tuple[str, bool]:
    stream = api.WatchProgress(request, timeout=DEADLINE)
    seen = ""
    for count, event in enumerate(stream):
        _take(event, rows)
        if event.WhichOneof("event") == "terminal":
            return event.resume_token, True
        seen = event.resume_token
        if count >= 2 and seen != request.resume_token:
            break
    stream.cancel()  # type: ignore[no-untyped-call]  # untyped there
    return seen, False


def _take(event: pb.WatchProgressResponse, rows: dict[str, pb.JobGuild]) -> None:
    for row in [*event.snapshot.guilds, *([event.guild] if event.HasField("guild") else [])]:
        if row.guild_id not in rows or rows[row.guild_id].revision <= row.revision:
            rows[row.guild_id] = row
