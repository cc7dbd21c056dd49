"""The Python client never loses its place, over a real service that is cut off, drained and killed in the middle."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

import indexer_client
from devstack import stack
from indexer_client import errors, pb
from tests import cutter as connections
from tests.system import conftest, test_resume_watching

DEADLINE = 110.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[stack.Stack]:
    """Two services and a worker; a job takes about fifteen seconds."""
    options = stack.Options(
        services=2,
        guilds_per_user=30,
        latency="5-20",
        simulator=("--user-limit", "2/1"),
        environment={**conftest.FAST, "USER_BUDGET": "2/1"},
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


def restart_all(fleet: stack.Stack) -> None:
    """Drain one service and kill the other, while a job runs."""
    time.sleep(2.0)
    fleet.terminate("service-1")
    fleet.restart("service-1")
    fleet.kill("service-2")
    fleet.restart("service-2")


async def test_a_watch_ends_like_one_that_was_never_cut(fleet: stack.Stack) -> None:
    """Also through a drain and a kill: same rows, same end, and no error for the caller."""
    user, seen = fleet.users[0].id, test_resume_watching.State()
    async with connections.Cutter(fleet.addresses, every=0.05).running() as cutter:
        settings = indexer_client.Options(f"127.0.0.1:{cutter.port}", deadline=5.0)
        async with indexer_client.AsyncClient(settings=settings) as client:
            started = await client.api.StartIndexing(pb.StartIndexingRequest(user_id=user, force=True))
            trouble = threading.Thread(target=restart_all, args=(fleet,))
            trouble.start()
            async with asyncio.timeout(DEADLINE):
                async for event in client.watch(started.job.job_id):
                    seen.take(event)
            await asyncio.to_thread(trouble.join)
        cuts = cutter.cuts

    async with indexer_client.AsyncClient(fleet.address) as client:
        stable = test_resume_watching.State()
        async for event in client.watch(started.job.job_id):
            stable.take(event)
    assert (seen.rows, seen.end) == (stable.rows, stable.end)
    assert len(seen.rows) == 30
    assert cuts >= 20
    print(f"{cuts} connections were cut")  # noqa: T201 -- pytest -s shows it


def test_a_sync_client_does_a_whole_job(fleet: stack.Stack) -> None:
    """Start and wait, page through guilds and channels, search, and check ids."""
    user = fleet.users[0].id
    with indexer_client.Client(fleet.address) as client:
        job = client.start_and_wait(user)
        guilds, channels = list(client.guilds(user)), list(client.channels(user))
        asked = pb.BatchGetChannelsRequest(user_id=user, channel_ids=[*(row.channel_id for row in channels[:50]), "1"])
        found = client.api.BatchGetChannels(asked)
        hits = client.api.SearchChannels(pb.SearchChannelsRequest(user_id=user, query=channels[0].name))

    assert job.state in {pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_SUCCEEDED_WITH_ERRORS}
    assert len(guilds) == 30
    assert sum(guild.channel_count for guild in guilds) == len(channels)
    assert list(found.channels) == channels[:50]
    assert list(found.missing_channel_ids) == ["1"]
    assert hits.channels


def test_an_error_has_its_reason_and_every_wrong_field(fleet: stack.Stack) -> None:
    """Typed by its code."""
    with indexer_client.Client(fleet.address) as client:
        with pytest.raises(errors.InvalidRequest) as refused:
            client.api.ListChannels(pb.ListChannelsRequest(user_id="x", guild_id="y"))
        with pytest.raises(errors.NotFound) as unknown:
            client.api.GetJob(pb.GetJobRequest(job_id="f" * 32))

    assert [field for field, _ in refused.value.violations] == ["user_id", "guild_id"]
    assert (unknown.value.reason, unknown.value.metadata) == ("JOB_NOT_FOUND", {"job_id": "f" * 32})
