"""A watcher whose connection keeps breaking, compared to one with a stable connection."""

import concurrent.futures
import itertools
import random
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import duration_pb2

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

DEADLINE = 60.0
DROPS = 200
MESSAGES = 2.5
"""Mean number of events read before a connection breaks."""


class State:
    """A client's state of a job: the newest guild tasks, and the final job."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.end = b""
        self.token = ""
        self._revisions: dict[str, int] = {}

    def take(self, event: pb.WatchProgressResponse) -> None:
        """Merge an event."""
        self.token = event.resume_token
        for row in [*event.snapshot.guilds, *([event.guild] if event.HasField("guild") else [])]:
            if self._revisions.get(row.guild_id, -1) <= row.revision:
                self._revisions[row.guild_id] = row.revision
                self.rows[row.guild_id] = row.SerializeToString(deterministic=True)
        if event.HasField("terminal"):
            self.end = event.terminal.job.SerializeToString(deterministic=True)


@pytest.fixture
def fleet() -> Iterator[stack.Stack]:
    """Two services and a worker; a job takes a few seconds."""
    options = stack.Options(
        services=2,
        guilds_per_user=30,
        latency="5-20",
        simulator=("--user-limit", "15/1"),
        environment={**conftest.FAST, "USER_BUDGET": "15/1"},
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


def follow(api: pb_grpc.IndexerServiceStub, job_id: str) -> State:
    """Watch a job to its end over one connection."""
    state = State()
    for event in api.WatchProgress(pb.WatchProgressRequest(job_id=job_id), timeout=DEADLINE):
        state.take(event)
    return state


def follow_with_drops(apis: list[pb_grpc.IndexerServiceStub], job_id: str, dice: random.Random) -> tuple[State, int]:
    """Watch a job to its end over streams that break after a few events, each at a random service."""
    state, drops = State(), 0
    while not state.end:
        request = pb.WatchProgressRequest(job_id=job_id, resume_token=state.token)
        stream = dice.choice(apis).WatchProgress(request, timeout=DEADLINE)
        for event in itertools.islice(stream, int(dice.expovariate(1 / MESSAGES))):
            state.take(event)
        stream.cancel()  # type: ignore[no-untyped-call]  # untyped there
        drops += not state.end
    return state, drops


def test_a_watcher_ends_with_the_same_state_when_its_connection_breaks_200_times(fleet: stack.Stack) -> None:
    """Resuming with the last token at any service gives the same final state as an unbroken stream."""
    dice, drops = random.Random(4), 0
    start = pb.StartIndexingRequest(user_id=fleet.users[0].id, wait=duration_pb2.Duration(), force=True)
    channels = [grpc.insecure_channel(address) for address in fleet.addresses]
    apis = [pb_grpc.IndexerServiceStub(channel) for channel in channels]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        while drops < DROPS:
            job_id = apis[0].StartIndexing(start, timeout=DEADLINE).job.job_id
            steady = pool.submit(follow, apis[1], job_id)

            broken, count = follow_with_drops(apis, job_id, dice)
            drops += count

            assert broken.rows == steady.result(DEADLINE).rows
            assert broken.end == steady.result().end
            assert len(broken.rows) == fleet.options.guilds_per_user
    for channel in channels:
        channel.close()
