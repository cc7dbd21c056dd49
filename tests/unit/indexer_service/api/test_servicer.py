"""The methods of the API over a backend of fakes."""

import dataclasses
from typing import Any

import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from indexer_service import caller
from indexer_service.api import convert, lookups, servicer, watch_encoder
from indexer_service.interceptors import idempotency
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.domain import job_updates, model, ports, turns
from tests import edge, fake_backend, stored, values
from tests.unit.indexer_service import contexts

pytestmark = pytest.mark.clockwork
USER = str(values.USER)
JOB = "a" * 32
GUILDS = list(range(10, 70, 10))


@dataclasses.dataclass
class Bench:
    """The service over a backend."""

    backend: fake_backend.FakeBackend
    service: servicer.Servicer

    async def call(self, method: str, *, remaining: float | None = None, **fields: Any) -> Any:  # noqa: ANN401 -- any message
        """Call a method; returns its response, or the messages of its stream."""
        request = getattr(pb, f"{method}Request")(**fields)
        context = contexts.Context(remaining=remaining)
        answer = await getattr(self.service, method)(request, context)
        return answer if answer is not None else context.written

    async def page(self, method: str, **fields: Any) -> Any:  # noqa: ANN401 -- any message
        """Return a page; a response that was joined from encoded rows is decoded."""
        answer = await self.call(method, **fields)
        return getattr(pb, f"{method}Response").FromString(answer) if isinstance(answer, bytes) else answer

    async def pages(self, method: str, rows: str, **fields: Any) -> list[Any]:  # noqa: ANN401 -- any message
        """Return the rows of all pages."""
        found: list[Any] = []
        token = ""
        while True:
            page = await self.page(method, page_token=token, **fields)
            found += getattr(page, rows)
            token = page.next_page_token
            if not token:
                return found


@pytest.fixture
async def bench() -> Bench:
    """One user in six guilds; nothing is indexed."""
    backend = fake_backend.make()
    await backend.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    return Bench(backend, edge.service(backend))


def seconds(value: float) -> duration_pb2.Duration:
    """Return a Duration."""
    made = duration_pb2.Duration()
    made.FromMilliseconds(round(value * 1000))
    return made


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("StartIndexing", {"user_id": "x"}, "user_id"),
        ("StartIndexing", {"user_id": USER, "wait": seconds(10.5)}, "wait"),
        ("StartIndexing", {"user_id": USER, "immediate_guilds": 26}, "immediate_guilds"),
        ("StartIndexing", {"user_id": USER, "immediate_guilds": -1}, "immediate_guilds"),
        ("WatchProgress", {}, "job_id"),
        ("WatchProgress", {"job_id": JOB, "user_id": USER}, "job_id"),
        ("WatchProgress", {"job_id": "x"}, "job_id"),
        ("WatchProgress", {"user_id": "x"}, "user_id"),
        ("WatchProgress", {"job_id": JOB, "heartbeat": seconds(61)}, "heartbeat"),
        ("WatchProgress", {"user_id": USER, "resume_token": "x"}, "resume_token"),
        ("GetJob", {"job_id": "../x"}, "job_id"),
        ("WaitJob", {"job_id": "x"}, "job_id"),
        ("ListJobs", {"user_id": ""}, "user_id"),
        ("ListJobs", {"user_id": USER, "page_size": -1}, "page_size"),
        ("ListJobs", {"user_id": USER, "page_token": "x"}, "page_token"),
        ("CancelJob", {"job_id": ""}, "job_id"),
        ("RetryJob", {"job_id": "x"}, "job_id"),
        ("ListGuilds", {"user_id": "-5"}, "user_id"),
        ("ListGuilds", {"user_id": USER, "page_size": -1}, "page_size"),
        ("ListGuilds", {"user_id": USER, "page_token": "x"}, "page_token"),
        ("ListChannels", {"user_id": "0"}, "user_id"),
        ("ListChannels", {"user_id": USER, "guild_id": "x"}, "guild_id"),
        ("ListChannels", {"user_id": USER, "page_size": -1}, "page_size"),
        ("ListChannels", {"user_id": USER, "types": [0, -1]}, "types[2]"),
        ("ListChannels", {"user_id": USER, "page_token": "x"}, "page_token"),
        ("ListChannels", {"user_id": USER, "name_prefix": "x" * 101}, "name_prefix"),
        ("ListChannels", {"user_id": USER, "types": list(range(21))}, "types"),
        ("ListChannels", {"user_id": USER, "order": 9}, "order"),
        ("PutCredential", {"user_id": "x", "access_token": "t"}, "user_id"),
        ("PutCredential", {"user_id": USER}, "access_token"),
        ("PutCredential", {"user_id": USER, "access_token": "a b"}, "access_token"),
        ("PutCredential", {"user_id": USER, "access_token": "t", "refresh_token": "é"}, "refresh_token"),
        ("PutCredential", {"user_id": USER, "access_token": "t", "scopes": ["s"] * 51}, "scopes"),
        ("PutCredential", {"user_id": USER, "access_token": "t", "scopes": [""]}, "scopes[1]"),
        (
            "PutCredential",
            {"user_id": USER, "access_token": "t", "expire_time": timestamp_pb2.Timestamp(seconds=1 << 60)},
            "expire_time",
        ),
        (
            "PutCredential",
            {"user_id": USER, "access_token": "t", "expire_time": timestamp_pb2.Timestamp(nanos=-1)},
            "expire_time",
        ),
        ("GetPreferences", {"user_id": "x"}, "user_id"),
        (
            "UpdatePreferences",
            {"user_id": USER, "preferences": pb.Preferences(pinned_guild_ids=["x"])},
            "preferences.pinned_guild_ids[1]",
        ),
        (
            "UpdatePreferences",
            {"user_id": USER, "preferences": pb.Preferences(muted_guild_ids=["1"] * 201)},
            "preferences.muted_guild_ids",
        ),
        ("GetRateLimits", {"user_ids": ["x"]}, "user_ids[1]"),
        ("GetRateLimits", {"user_ids": ["1"] * 51}, "user_ids"),
    ],
)
async def test_the_field_is_named_when_a_request_is_invalid(
    bench: Bench, method: str, fields: dict[str, Any], field: str
) -> None:
    """And nothing is done."""
    await bench.backend.jobs.create_or_join(values.job())

    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.call(method, **fields)

    assert refused.value.field == field
    assert bench.backend.discord.calls == []


@pytest.mark.parametrize(
    ("method", "fields", "wrong"),
    [
        (
            "StartIndexing",
            {"wait": seconds(11), "immediate_guilds": 26, "request_id": "x"},
            ["user_id", "request_id", "wait", "immediate_guilds"],
        ),
        ("WatchProgress", {"heartbeat": seconds(1)}, ["job_id", "heartbeat"]),
        ("WaitJob", {"wait": seconds(-1)}, ["job_id", "wait"]),
        ("ListJobs", {"page_size": -1}, ["user_id", "page_size"]),
        ("CancelJob", {"request_id": "x"}, ["job_id", "request_id"]),
        ("RetryJob", {"request_id": "x"}, ["job_id", "request_id"]),
        ("ListGuilds", {"page_size": -1}, ["user_id", "page_size"]),
        (
            "ListChannels",
            {"guild_id": "x", "types": [-1, 0, -1], "order": 9, "page_size": -1},
            ["user_id", "types[1]", "types[3]", "order", "guild_id", "page_size"],
        ),
        (
            "PutCredential",
            {"scopes": ["", "s", ""], "request_id": "x"},
            ["user_id", "request_id", "scopes[1]", "scopes[3]", "access_token"],
        ),
        ("RevokeCredential", {"request_id": "x"}, ["user_id", "request_id"]),
        ("DeleteUserData", {"request_id": "x"}, ["user_id", "request_id"]),
        (
            "UpdatePreferences",
            {"preferences": pb.Preferences(muted_guild_ids=["1", "x"]), "update_mask": {"paths": ["pins"]}},
            ["user_id", "preferences.muted_guild_ids[2]", "update_mask.paths[1]"],
        ),
    ],
)
async def test_every_wrong_field_is_named_when_there_are_several(
    bench: Bench, method: str, fields: dict[str, Any], wrong: list[str]
) -> None:
    """A caller learns all of them with one call (AIP-193); elements of lists count from 1."""
    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.call(method, **fields)

    assert [field for field, _ in refused.value.violations] == wrong


async def test_every_method_with_a_request_id_refuses_a_wrong_one(bench: Bench) -> None:
    """The interceptor in front of them leaves that to the methods."""
    for method in sorted(idempotency.METHODS):
        with pytest.raises(errors.InvalidArgument) as refused:
            await bench.call(method, request_id="x")
        assert "request_id" in dict(refused.value.violations), method


@pytest.mark.parametrize(
    ("mask", "pinned", "muted"),
    [
        pytest.param([], ["30"], ["20"], id="fields-that-are-set"),
        pytest.param(["pinned_guild_ids"], ["30"], ["20"], id="one"),
        pytest.param(["muted_guild_ids"], ["10"], [], id="one-emptied"),
        pytest.param(["pinned_guild_ids", "muted_guild_ids"], ["30"], [], id="both"),
        pytest.param(["*"], ["30"], [], id="all"),
    ],
)
async def test_preferences_change_as_the_mask_says(
    bench: Bench, mask: list[str], pinned: list[str], muted: list[str]
) -> None:
    """What is not in the mask stays (AIP-134)."""
    before = pb.Preferences(pinned_guild_ids=["10"], muted_guild_ids=["20"])
    await bench.call("UpdatePreferences", user_id=USER, preferences=before)

    change = pb.Preferences(pinned_guild_ids=["30"])
    changed = await bench.call("UpdatePreferences", user_id=USER, preferences=change, update_mask={"paths": mask})

    wanted = pb.Preferences(pinned_guild_ids=pinned, muted_guild_ids=muted)
    assert changed.preferences == wanted
    assert (await bench.call("GetPreferences", user_id=USER)).preferences == wanted


@pytest.mark.parametrize("method", ["GetJob", "WaitJob", "CancelJob", "RetryJob", "WatchProgress"])
async def test_a_job_is_not_found_when_it_does_not_exist(bench: Bench, method: str) -> None:
    """The error has its id."""
    with pytest.raises(errors.JobNotFound) as unknown:
        await bench.call(method, job_id="f" * 32)

    assert unknown.value.job_id == "f" * 32


def test_every_method_of_the_api_is_implemented() -> None:
    """The generated base class answers UNIMPLEMENTED."""
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods}

    own = vars(servicer.Servicer).keys() | vars(lookups.Lookups).keys()
    assert methods <= own


async def test_the_removed_documents_are_counted_when_a_user_is_erased(bench: Bench) -> None:
    """By collection; the cached join response is dropped."""
    await bench.call("StartIndexing", user_id=USER)

    answer = await bench.call("DeleteUserData", user_id=USER)

    assert dict(answer.removed) == {"users": 1, "rosters": 1, "jobs": 1, "guilds": 6}
    with pytest.raises(errors.CredentialMissing):
        await bench.call("StartIndexing", user_id=USER)


async def test_first_results_are_returned_when_indexing_starts(bench: Bench) -> None:
    """The job, its guilds by rank, the number that remain, and a token to watch the rest."""
    answer = await bench.call("StartIndexing", user_id=USER, immediate_guilds=2)
    await bench.backend.run_all_turns()
    messages = await bench.call("WatchProgress", job_id=answer.job.job_id, resume_token=answer.watch_token)

    assert answer.disposition == pb.DISPOSITION_CREATED
    assert [guild.guild_id for guild in answer.guilds] == [str(guild_id) for guild_id in GUILDS]
    assert answer.remaining == 4
    assert answer.job.progress == pb.Progress(total=6, queued=4, succeeded=2)
    assert messages[-1].terminal.job.state == pb.JOB_STATE_SUCCEEDED


async def test_the_wait_ends_before_the_deadline_when_discord_is_slow(bench: Bench) -> None:
    """The caller gets a response, not DEADLINE_EXCEEDED."""
    bench.backend.discord.latency = 30.0
    began = bench.backend.clock()

    answer = await bench.call("StartIndexing", user_id=USER, remaining=1.0)

    assert bench.backend.clock() - began < 1.0
    assert answer.job.state == pb.JOB_STATE_RUNNING
    await bench.backend.run_all_turns()


async def test_the_snapshot_has_several_messages_when_a_job_has_many_guilds(bench: Bench) -> None:
    """At most 50 rows a message; only the last part's token skips the snapshot."""
    rows = [values.task(number, position=number, state=model.TaskState.SKIPPED) for number in range(120)]
    guilds = [values.user_guild(row.guild_id) for row in rows]
    await stored.guild_list(bench.backend.users, values.USER, guilds, bench.backend.clock())
    await bench.backend.jobs.create_or_join(values.job())
    await bench.backend.jobs.add_tasks(values.job(), rows)
    ended = dataclasses.replace(values.job(), state=model.JobState.SUCCEEDED, finished_at=bench.backend.clock())
    await bench.backend.jobs.save(values.job(), ended)
    await bench.backend.events.publish(job_updates.JobUpdate(ended, job_updates.tally_of(rows), tuple(rows)))

    messages = await bench.call("WatchProgress", job_id=JOB)
    resumed = [await bench.call("WatchProgress", job_id=JOB, resume_token=message.resume_token) for message in messages]

    kinds = [message.WhichOneof("event") for message in messages]
    assert kinds == ["snapshot", "snapshot", "snapshot", "snapshot_end", "terminal"]
    assert [len(message.snapshot.guilds) for message in messages[:3]] == [50, 50, 20]
    for answer in resumed:
        guilds = [guild.guild_id for message in answer for guild in message.snapshot.guilds]
        assert len(guilds) == 120
        assert answer[-1].WhichOneof("event") == "terminal"


async def test_throttled_is_sent_when_a_watched_job_waits_for_quota(bench: Bench) -> None:
    """With the budget and the time; a draining process then ends the stream."""
    bench.backend.discord.fail(10, errors.RateLimited("user", retry_after=30.0, why="used up"))
    await bench.backend.start_job()
    await bench.backend.run_next_turn()
    due = (await bench.backend.get_job()).waiting_until
    first = bench.backend.events.streams[JOB][0].position
    token = edge.TOKENS.sign(watch_encoder.PURPOSE, [JOB, first])
    bench.service._slots.drain()

    messages = await bench.call("WatchProgress", job_id=JOB, resume_token=token)

    kinds = [message.WhichOneof("event") for message in messages]
    (waiting,) = [message.throttled for message in messages if message.HasField("throttled")]
    assert waiting == pb.Throttled(budget="user", budget_kind=pb.BUDGET_KIND_USER, end_time=convert.timestamp(due))
    assert (kinds[-1], messages[-1].going_away.reason) == ("going_away", pb.GOING_AWAY_REASON_DRAINING)
    assert all(message.resume_token for message in messages)


async def test_a_start_sees_a_change_when_this_process_knows_it(bench: Bench) -> None:
    """Until then the response comes from the cache."""
    await bench.backend.start_job()
    await bench.backend.turn_runner.run_turn(turns.Turn(JOB, 0), bench.backend.turn_limits(first=1))
    first = pb.StartIndexingResponse.FromString(await bench.call("StartIndexing", user_id=USER))
    again = pb.StartIndexingResponse.FromString(await bench.call("StartIndexing", user_id=USER, force=True))

    await bench.call("CancelJob", job_id=JOB)
    bench.service.forget_joins(bench.backend.events.streams[JOB][-1])
    new = await bench.call("StartIndexing", user_id=USER, force=True)

    assert first == again
    assert (first.disposition, first.reason, first.remaining) == (pb.DISPOSITION_JOINED, pb.START_REASON_JOB_RUNNING, 5)
    assert (new.disposition, new.reason) == (pb.DISPOSITION_CREATED, pb.START_REASON_FORCED)


async def test_a_token_is_refused_when_it_belongs_to_another_job(bench: Bench) -> None:
    """A position is valid in one job's stream only."""
    await bench.backend.jobs.create_or_join(values.job())
    token = edge.TOKENS.sign(watch_encoder.PURPOSE, ["b" * 32, "1-0"])

    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.call("WatchProgress", job_id=JOB, resume_token=token)

    assert refused.value.field == "resume_token"


async def test_every_row_is_returned_once_when_pages_are_followed(bench: Bench) -> None:
    """Guilds, channels and jobs, with any page size."""
    await bench.backend.start_job()
    await bench.backend.run_all_turns()
    bench.backend.clock.advance(100)
    await bench.backend.start_job("b" * 32)
    await bench.backend.run_all_turns()

    for size in (1, 2, 4, 6, 7):
        guilds = await bench.pages("ListGuilds", "guilds", user_id=USER, page_size=size)
        channels = await bench.pages("ListChannels", "channels", user_id=USER, page_size=size)
        jobs = await bench.pages("ListJobs", "jobs", user_id=USER, page_size=size)
        assert [guild.guild_id for guild in guilds] == [str(guild_id) for guild_id in GUILDS]
        assert [channel.channel_id for channel in channels] == [str(guild_id + 1) for guild_id in GUILDS]
        assert [job.job_id for job in jobs] == ["b" * 32, JOB]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("ListGuilds", {}), ("ListGuilds", {"user_id": "7"}), id="another-user"),
        pytest.param(("ListGuilds", {}), ("ListChannels", {}), id="another-list"),
        pytest.param(("ListChannels", {}), ("ListChannels", {"name_prefix": "c"}), id="another-filter"),
        pytest.param(("ListChannels", {}), ("ListChannels", {"order": 2}), id="another-order"),
        pytest.param(("ListChannels", {}), ("ListChannels", {"guild_id": "10"}), id="another-guild"),
        pytest.param(("ListChannels", {}), ("ListChannels", {"user_id": "7"}), id="another-users-channels"),
    ],
)
async def test_a_page_token_is_refused_when_another_list_is_requested(
    bench: Bench, first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]
) -> None:
    """It is bound to the list that it was signed for."""
    await bench.backend.users.put_credential(7, values.credential())
    await bench.backend.start_job()
    await bench.backend.run_all_turns()
    page = await bench.page(first[0], **{"user_id": USER, "page_size": 2, **first[1]})
    assert page.next_page_token

    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.call(second[0], **{"user_id": USER, "page_token": page.next_page_token, **second[1]})

    assert refused.value.field == "page_token"


async def test_all_fields_are_stored_when_a_credential_is_put(bench: Bench) -> None:
    """With scopes and expiry."""
    expires = timestamp_pb2.Timestamp(seconds=1_900_000_000, nanos=500_000_000)

    await bench.call(
        "PutCredential", user_id="7", access_token="a", refresh_token="r", scopes=["guilds"], expire_time=expires
    )

    assert await bench.backend.users.credential(7) == ports.Credential("a", "r", 1_900_000_000.5, ("guilds",))


async def test_preferences_are_replaced_when_they_are_updated(bench: Bench) -> None:
    """Each guild once, in the order of the request."""
    preferences = pb.Preferences(pinned_guild_ids=["30", "10", "30"], muted_guild_ids=["20"])

    answer = await bench.call("UpdatePreferences", user_id=USER, preferences=preferences)

    kept = pb.Preferences(pinned_guild_ids=["30", "10"], muted_guild_ids=["20"])
    assert answer.preferences == kept
    assert (await bench.call("GetPreferences", user_id=USER)).preferences == kept


@pytest.mark.parametrize("method", ["StartIndexing", "RetryJob", "PutCredential"])
async def test_a_stopped_caller_starts_nothing_when_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The refusal comes before any work, from what the process knows; calls without a caller are never refused."""
    checked: list[str] = []

    def check(name: str) -> None:
        checked.append(name)
        if name == "shop":
            raise errors.CallerStopped(name, 500.0)

    monkeypatch.setattr(bench.service._use_cases.limits, "check_caller", check)
    fields: dict[str, dict[str, Any]] = {
        "StartIndexing": {"user_id": USER},
        "RetryJob": {"job_id": JOB},
        "PutCredential": {"user_id": USER, "access_token": "t"},
    }
    outcomes: list[object] = []
    for name in ("shop", "wiki", ""):
        caller.note(caller.Caller(name, peers=2))
        try:
            await bench.call(method, **fields[method])
        except errors.IndexerError as problem:
            outcomes.append(type(problem))
        else:
            outcomes.append(None)
    caller.note(caller.UNNAMED)

    other = errors.JobNotFound if method == "RetryJob" else None
    assert outcomes == [errors.CallerStopped, other, other]
    assert checked == ["shop", "wiki"]
