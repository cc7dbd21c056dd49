"""A user is erased while their job runs; then every document and key is searched for their id."""

import contextlib
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pymongo
import pytest
import redis

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a stack of its own")
TIMEOUT = 60.0
BUDGETS = ("p:u:", "p:r:user:")
"""Parts of the limiter's keys that carry a user's id; these keys expire with the user's last permit."""


@pytest.fixture(scope="module")
def running() -> Iterator[stack.Stack]:
    """Two users with some shared guilds; the latency is high, so that a job still runs during the erasure."""
    options = stack.Options(
        users=2,
        workers=2,
        guilds_per_user=24,
        latency="150-250",
        simulator=("--user-limit", "40/1", "--guilds", "32"),
        environment=conftest.FAST,
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


def documents(running: stack.Stack, user: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents that contain the user's id, with their collections."""
    found = []
    with pymongo.MongoClient[dict[str, Any]](running.mongodb_url) as client:
        database = client[running.database]
        for name in database.list_collection_names():
            rows = database[name].find()
            found += [(name, row) for row in rows if _names(row, user)]
    return found


def _names(value: object, user: str) -> bool:
    if isinstance(value, dict):
        return any(_names(part, user) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(_names(part, user) for part in value)
    return user.encode() in value if isinstance(value, bytes) else user in str(value)


def keys(running: stack.Stack, user: str) -> list[str]:
    """Return the Redis keys with the user's id in the name or the value."""
    readers: dict[bytes, Any] = {
        b"string": lambda client, key: client.get(key),
        b"hash": lambda client, key: client.hgetall(key),
        b"list": lambda client, key: client.lrange(key, 0, -1),
        b"set": lambda client, key: client.smembers(key),
        b"zset": lambda client, key: client.zrange(key, 0, -1),
        b"stream": lambda client, key: client.xrange(key),
    }
    found = []
    with contextlib.closing(redis.Redis.from_url(running.redis_url)) as client:
        for key in client.scan_iter():
            kind: Any = client.type(key)
            if kind != b"none" and user in repr((key, readers[kind](client, key))):  # else expired meanwhile
                found.append(key.decode())
    return found


def test_no_document_or_key_has_the_user_when_they_were_erased_during_a_job(running: stack.Stack) -> None:
    """Only overwrites of shared guilds keep the id, and the limiter's keys until the last permit expires."""
    user, other = (row.id for row in running.users)
    with grpc.insecure_channel(running.address) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        _index(api, other)
        _index(api, user)
        mine, others = _guilds(api, user), _guilds(api, other)
        job_id = _start_again(api, user, mine[0])
        assert {name for name, _ in documents(running, user)} >= {"users", "rosters", "jobs", "requests"}
        assert any(key.startswith("indexer:{events}") for key in keys(running, user))
        assert api.GetJob(pb.GetJobRequest(job_id=job_id), timeout=20).job.state == pb.JOB_STATE_RUNNING

        wanted = pb.DeleteUserDataRequest(user_id=user, request_id=str(uuid.uuid4()))
        removed, repeated = (dict(api.DeleteUserData(wanted, timeout=20).removed) for _ in range(2))

        own = set(mine) - set(others)
        assert repeated == removed
        assert removed == {"users": 1, "rosters": 1, "jobs": 2, "requests": 2, "guilds": len(own)}
        _await_silence(running, user)
        with pytest.raises(grpc.RpcError) as unknown:
            api.ListGuilds(pb.ListGuildsRequest(user_id=user), timeout=20)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        assert _guilds(api, other) == others
    assert _left_of(running, job_id, [int(guild_id) for guild_id in own]) == 0


def _start_again(api: pb_grpc.IndexerServiceStub, user: str, pinned: str) -> str:
    """Store preferences and start a job, so that all kinds of user data exist; returns the running job's id."""
    preferences = pb.Preferences(pinned_guild_ids=[pinned])
    update = pb.UpdatePreferencesRequest(user_id=user, preferences=preferences, request_id=str(uuid.uuid4()))
    api.UpdatePreferences(update, timeout=20)
    again = pb.StartIndexingRequest(user_id=user, force=True, request_id=str(uuid.uuid4()))
    again.wait.FromSeconds(1)
    return api.StartIndexing(again, timeout=20).job.job_id


def _left_of(running: stack.Stack, job_id: str, guild_ids: list[int]) -> int:
    """Return the number of documents of a job and of guilds."""
    with pymongo.MongoClient[dict[str, Any]](running.mongodb_url) as client:
        database = client[running.database]
        jobs = database["jobs"].count_documents({"_id": job_id})
        return jobs + database["guilds"].count_documents({"_id": {"$in": guild_ids}})


def _await_silence(running: stack.Stack, user: str) -> None:
    """Poll until no document or key has the user's id; check at every poll that only allowed ones are left."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        stored, cached = documents(running, user), keys(running, user)
        elsewhere = [(name, row) for name, row in stored if not _only_an_overwrite(name, row, user)]
        if not elsewhere and not cached:
            return
        assert time.monotonic() < deadline, (elsewhere, cached)
        assert {name for name, _ in elsewhere} <= {"units", "memberships"}, (
            "only a turn that still runs may write these"
        )
        events = [key for key in cached if not any(part in key for part in (*BUDGETS, "}:tags", "}:active"))]
        assert all(key.startswith("indexer:{events}") for key in events)


def _only_an_overwrite(name: str, row: dict[str, Any], user: str) -> bool:
    """Return whether it is a channel that has the user's id in its overwrites only, or what an erasure leaves."""
    if name in {"users", "rosters"}:
        return row.keys() <= {"_id", "version", "erased", "erased_at"}
    return name == "channels" and not _names({**row, "overwrites": []}, user)


def _index(api: pb_grpc.IndexerServiceStub, user: str) -> None:
    started = api.StartIndexing(pb.StartIndexingRequest(user_id=user), timeout=20)
    for _ in api.WatchProgress(pb.WatchProgressRequest(job_id=started.job.job_id), timeout=TIMEOUT):
        pass


def _guilds(api: pb_grpc.IndexerServiceStub, user: str) -> list[str]:
    page = api.ListGuilds(pb.ListGuildsRequest(user_id=user, page_size=200), timeout=20)
    return sorted(guild.guild_id for guild in page.guilds)
