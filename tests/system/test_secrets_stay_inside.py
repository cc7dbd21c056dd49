"""
Secrets do not leave the product's processes, in plain text or encoded.

The tests search everything that a running stack exposes: the logs of all programs at debug level (except the
simulator's, which prints its fake tokens), every key and every write of Redis, every document of MongoDB, the metrics,
and the command lines of all processes.
"""

import base64
import binascii
import contextlib
import pathlib
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pymongo
import pytest
import redis
from bson import codec_options, raw_bson

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest
from tests.unit.devstack import stack_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
KEY = base64.urlsafe_b64encode(b"a recognisable key of 32 bytes !").decode()
DEAD = "dead-access-token/5f3c+9a"
DEAD_REFRESH = "dead-refresh-token/5f3c+9a"
CLIENT_SECRET = "sim-secret"
"""The client secret of the simulator's application."""
CANARY = "canary/token+5f3c9a77"
PLACES = {"logs", "Redis", "Redis' log of writes", "MongoDB", "metrics", "command lines"}


def forms(secret: str) -> set[bytes]:
    """Return the encodings of a secret: plain, both base64 alphabets at any offset, percent-encoded, hex, repr."""
    raw = secret.encode()
    found = {raw, urllib.parse.quote(secret, safe="").encode(), binascii.hexlify(raw), repr(secret)[1:-1].encode()}
    for lead in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Only characters that depend on the secret alone, not on the bytes before or after it.
            encoded = encode(b"\0" * lead + raw)
            found.add(encoded[-(-lead * 4 // 3) : len(encoded) // 4 * 4 - 4])
    return found


def finds(where: dict[str, bytes], secret: str) -> set[str]:
    """Return the places that contain a secret in any encoding."""
    return {place for place, text in where.items() if any(form in text for form in forms(secret))}


def exposed(running: stack.Stack) -> dict[str, bytes]:
    """Return everything that can be read outside of the product's processes, by place."""
    directory = running.logs.parent
    return {
        "logs": b"".join(path.read_bytes() for path in running.logs.iterdir() if path.stem != "simulator"),
        "Redis": b"\n".join(_redis(running.redis_url)),
        "Redis' log of writes": b"".join(_files(directory / "valkey")),
        "MongoDB": b"".join(_mongodb(running)),
        "metrics": b"".join(map(_page, running.metrics_urls.values())),
        "command lines": "".join(stack_processes.command_lines(str(directory))).encode(),
    }


def _files(folder: pathlib.Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes()


def _page(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 -- loopback
        return bytes(answer.read())


def _redis(url: str) -> Iterator[bytes]:
    readers: dict[bytes, Any] = {
        b"string": lambda client, key: client.get(key),
        b"hash": lambda client, key: client.hgetall(key),
        b"list": lambda client, key: client.lrange(key, 0, -1),
        b"set": lambda client, key: client.smembers(key),
        b"zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
        b"stream": lambda client, key: client.xrange(key),
    }
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        for key in client.scan_iter():
            kind: Any = client.type(key)
            if kind != b"none":  # else expired meanwhile
                yield key + repr(readers[kind](client, key)).encode()


def _mongodb(running: stack.Stack) -> Iterator[bytes]:
    options: Any = codec_options.CodecOptions(document_class=raw_bson.RawBSONDocument)
    with pymongo.MongoClient[Any](running.mongodb_url) as client:
        database = client.get_database(running.database, codec_options=options)
        for name in database.list_collection_names():
            for document in database[name].find():
                yield name.encode() + bytes(document.raw)


@pytest.fixture(scope="module")
def running() -> Iterator[stack.Stack]:
    """A stack with debug logs, after a job that succeeded and a job with a rejected token."""
    options = stack.Options(
        users=2,
        guilds_per_user=4,
        latency="none",
        exporter=True,
        simulator=("--user-limit", "40/1"),
        environment={**conftest.FAST, "LOG_LEVEL": "debug", "INDEXER_CREDENTIAL_KEYS": KEY},
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        with grpc.insecure_channel(started.address) as channel:
            api = pb_grpc.IndexerServiceStub(channel)
            _index(api, started.users[0].id)
            dead = pb.PutCredentialRequest(user_id="80351110224678912", access_token=DEAD, refresh_token=DEAD_REFRESH)
            dead.expire_time.FromSeconds(1)  # so that it is stored without asking Discord
            api.PutCredential(dead, timeout=10)
            _index(api, dead.user_id)
            dead.ClearField("expire_time")
            with pytest.raises(grpc.RpcError):
                api.PutCredential(dead, timeout=10)
            with pytest.raises(grpc.RpcError):
                api.PutCredential(pb.PutCredentialRequest(user_id="x", access_token=f"{DEAD} "), timeout=10)
        yield started


def _index(api: pb_grpc.IndexerServiceStub, user_id: str) -> None:
    started = api.StartIndexing(pb.StartIndexingRequest(user_id=user_id), timeout=20)
    for _ in api.WatchProgress(pb.WatchProgressRequest(job_id=started.job.job_id), timeout=30):
        pass


def test_no_secret_is_found_outside_when_jobs_have_run(running: stack.Stack) -> None:
    """This holds for the tokens of the bot and the users, valid or rejected, the client secret and the keys."""
    secrets = {
        "bot token": stack.SIMULATED_BOT_TOKEN,
        "access token": running.users[0].token,
        "refresh token": running.users[0].refresh_token,
        "refused access token": DEAD,
        "refused refresh token": DEAD_REFRESH,
        "credential key": KEY,
        "credential key's bytes": base64.urlsafe_b64decode(KEY).decode(),
        "client secret": CLIENT_SECRET,
    }

    where = exposed(running)
    found = {name: places for name, secret in secrets.items() if (places := finds(where, secret))}

    assert found == {}
    assert set(where) == PLACES
    # The user's id is no secret. Finding it proves that the search sees the data.
    user = running.users[0].id
    for place in ("logs", "MongoDB", "Redis' log of writes"):
        assert user.encode() in where[place] or int(user).to_bytes(8, "little") in where[place], place
    assert b"debug" in where["logs"]
    assert b"indexer_service" in where["command lines"]
    assert b"discord_" in where["metrics"]


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(b"x" + CANARY.encode() + b"y").decode(),
        base64.b64encode(b"Bot " + CANARY.encode() + b" and more").decode(),
        urllib.parse.quote(CANARY, safe=""),
        CANARY.encode().hex(),
    ],
    ids=["plain", "base64", "base64url-inside", "header-in-base64", "percent", "hex"],
)
def test_the_search_finds_a_secret_when_it_is_exposed(running: stack.Stack, form: str) -> None:
    """Without this, the test above could pass because the search is broken."""
    with contextlib.closing(redis.Redis.from_url(running.redis_url)) as client:
        client.hset("canary", "field", form)
    with pymongo.MongoClient[dict[str, Any]](running.mongodb_url) as client_:
        client_[running.database]["canary"].replace_one({"_id": 1}, {"inside": [{"of": form}]}, upsert=True)
    (running.logs / "canary.log").write_text(form)

    assert finds(exposed(running), CANARY) >= {"logs", "Redis", "Redis' log of writes", "MongoDB"}
