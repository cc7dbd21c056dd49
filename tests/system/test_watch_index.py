"""What a user may see, followed over two services while Discord and the user's roles change."""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf import duration_pb2

from devstack import stack
from indexer_client import index_state
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

DEADLINE = 60.0
SOON = 20.0
HEARTBEAT = duration_pb2.Duration(seconds=5)


class Follower:
    """Keeps a user's index over streams that break, each at the next service."""

    def __init__(self, addresses: list[str], user_id: str) -> None:
        self.state = index_state.IndexState()
        self.streams = 0
        self.resets = 0
        self.goodbyes: list[pb.GoingAwayReason] = []
        self._user_id = user_id
        self._channels = [grpc.insecure_channel(address) for address in addresses]
        self._call: grpc.Call | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._ended.is_set():
            api = pb_grpc.IndexerServiceStub(self._channels[self.streams % len(self._channels)])
            self.streams += 1
            request = pb.WatchIndexRequest(
                user_id=self._user_id, resume_token=self.state.resume_token, heartbeat=HEARTBEAT
            )
            try:
                self._call = api.WatchIndex(request, timeout=DEADLINE)
                for message in self._call:
                    self.state.apply(message)
                    self.resets += message.HasField("reset")
                    self.goodbyes += [message.going_away.reason] if message.HasField("going_away") else []
            except grpc.RpcError as error:
                if error.code() not in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}:
                    raise
                self._ended.wait(0.05)

    def drop(self) -> None:
        """Break the stream; the next one is opened at the other service."""
        if self._call is not None:
            self._call.cancel()  # type: ignore[no-untyped-call]  # untyped there

    def close(self) -> None:
        """Stop."""
        self._ended.set()
        self.drop()
        self._thread.join(DEADLINE)
        for channel in self._channels:
            channel.close()


@pytest.fixture
def fleet() -> Iterator[stack.Stack]:
    """Two services and a worker; one user with ten guilds."""
    options = stack.Options(
        services=2,
        guilds_per_user=10,
        latency="5-20",
        simulator=("--user-limit", "40/1", "--without-bot", "0"),
        environment=conftest.FAST,
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


def index(api: pb_grpc.IndexerServiceStub, user_id: str) -> None:
    """Index the user again."""
    started = api.StartIndexing(pb.StartIndexingRequest(user_id=user_id, force=True), timeout=DEADLINE)
    job = started.job
    while job.state == pb.JOB_STATE_RUNNING:
        request = pb.WaitJobRequest(job_id=job.job_id, wait=duration_pb2.Duration(seconds=10))
        job = api.WaitJob(request, timeout=DEADLINE).job
    assert job.state == pb.JOB_STATE_SUCCEEDED


def pages(api: pb_grpc.IndexerServiceStub, user_id: str) -> dict[str, pb.Channel]:
    """Return all pages of channels."""
    request = pb.ListChannelsRequest(user_id=user_id, page_size=500)
    found: dict[str, pb.Channel] = {}
    while True:
        page = api.ListChannels(request, timeout=DEADLINE)
        found |= {row.channel_id: row for row in page.channels}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def followed(follower: Follower) -> dict[str, pb.Channel]:
    """Return the follower's channels."""
    return {key: row for rows in list(follower.state.channels.values()) for key, row in list(rows.items())}


def soon(condition: Callable[[], bool]) -> bool:
    """Return whether a condition is met soon."""
    until = time.monotonic() + SOON
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return met


def test_a_follower_has_what_pages_show_when_channels_change_and_its_streams_break(fleet: stack.Stack) -> None:
    """By REST alone: hidden, shown and renamed channels arrive; each broken stream resumes at the other service."""
    user_id = fleet.users[0].id
    simulator = conftest.Simulator(fleet.simulator_url)
    with grpc.insecure_channel(fleet.addresses[0]) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        index(api, user_id)
        follower = Follower(fleet.addresses, user_id)
        try:
            assert soon(lambda: follower.state.complete)
            assert followed(follower) == pages(api, user_id)
            plain = [row for row in pages(api, user_id).values() if row.type == 0]
            for number, row in enumerate(plain[:8]):
                change = {"op": "change_channel", "guild": row.guild_id, "channel": row.channel_id}
                simulator.ask("world", [change | ({"hidden": True} if number % 2 else {"name": f"renamed-{number}"})])
                index(api, user_id)
                follower.drop()
                assert (row.channel_id in pages(api, user_id)) == (number % 2 == 0)
                assert soon(lambda: followed(follower) == pages(api, user_id))
            assert follower.resets == 1
            assert follower.streams >= 8
        finally:
            follower.close()


@pytest.mark.parametrize("end", ["leaves", "is killed"])
def test_a_follower_goes_on_at_the_other_service_when_its_own_ends(fleet: stack.Stack, end: str) -> None:
    """It resumes with its token and gets what changed meanwhile; a service that leaves says so."""
    user_id = fleet.users[0].id
    simulator = conftest.Simulator(fleet.simulator_url)
    with grpc.insecure_channel(fleet.addresses[1]) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        index(api, user_id)
        follower = Follower(fleet.addresses, user_id)
        try:
            assert soon(lambda: follower.state.complete)
            if end == "leaves":
                fleet.terminate("service-1")
                assert soon(lambda: follower.goodbyes == [pb.GOING_AWAY_REASON_DRAINING])
            else:
                fleet.kill("service-1")
            assert soon(lambda: follower.streams > 1)
            row = next(row for row in pages(api, user_id).values() if row.type == 0)
            simulator.ask(
                "world", [{"op": "change_channel", "guild": row.guild_id, "channel": row.channel_id, "hidden": True}]
            )
            index(api, user_id)

            assert soon(lambda: followed(follower) == pages(api, user_id))
            assert row.channel_id not in followed(follower)
            assert follower.resets == 1
        finally:
            follower.close()
