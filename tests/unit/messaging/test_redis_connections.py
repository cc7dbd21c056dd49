"""Connections leave a server that is no primary, and keep one that refuses for another reason."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis
import redis.exceptions
import structlog

from indexing import errors, settings
from indexing.messaging import redis_client, redis_connections, redis_errors, redis_sentinel
from tests import fake_redis

SCRIPT_6_2 = "ERR Error running script (call to f_ab): @user_script:1: @user_script: 1: -READONLY You can't write"
MOVED = {
    "READONLY": "READONLY You can't write against a read only replica.",
    "in-a-script-of-6.2": SCRIPT_6_2 + " against a read only replica.",
    "in-a-script-of-7": "READONLY You can't write against a read only replica. script: ab, on @user_script:1.",
    "by-a-proxy": "ERR READONLY You can't write against a read only replica.",
    "without-the-word": "ERR You can't write against a read only slave.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "UNBLOCKED": "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
}
KEPT = (
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOPERM User indexer has no permissions to run the 'set' command",
    "NOSCRIPT No matching script. Please use EVAL.",
    "BUSY Redis is busy running a script.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR unknown command 'READONLYX'",
)
moved = pytest.mark.parametrize("text", MOVED.values(), ids=MOVED.keys())


@pytest.fixture
def server() -> Iterator[fake_redis.FakeRedis]:
    """A primary."""
    with fake_redis.FakeRedis().running() as running:
        yield running


def config(url: str, timeout: float = 5.0) -> settings.RedisSettings:
    """Return settings for a URL."""
    return settings.RedisSettings(url=url, timeout=timeout)


@contextlib.contextmanager
def threaded(url: str, timeout: float = 5.0) -> Iterator[redis.Redis]:
    """Open the client of Dramatiq's threads."""
    client = redis_client.open_threaded_client(config(url, timeout))
    try:
        yield client
    finally:
        client.connection_pool.disconnect()


@moved
async def test_a_command_is_repeated_over_a_new_connection_when_the_server_is_no_primary(
    server: fake_redis.FakeRedis, text: str
) -> None:
    """A kept connection leads to the demoted server; a new one to where the address leads now."""
    server.replies["SET"] = [fake_redis.error(text), fake_redis.OK]

    async with redis_client.open_redis(config(server.url)) as client:
        await client.set("a", 1)

    assert (len(server.named("SET")), server.connections) == (2, 2)


@moved
def test_a_threads_command_is_repeated_over_a_new_connection_when_the_server_is_no_primary(
    server: fake_redis.FakeRedis, text: str
) -> None:
    """Also a push: the server has done nothing."""
    server.replies["RPUSH"] = [fake_redis.error(text), b":1\r\n"]

    with threaded(server.url) as client:
        client.rpush("a", 1)

    assert (len(server.named("RPUSH")), server.connections) == (2, 2)


@moved
async def test_the_error_names_the_state_when_the_next_server_is_no_primary_either(
    server: fake_redis.FakeRedis, text: str
) -> None:
    """Once more, not for ever; the caller gets a passing error."""
    server.replies["EVALSHA"] = [fake_redis.error(text)]

    async with redis_client.open_redis(config(server.url)) as client:
        with pytest.raises(errors.QueueUnavailable) as refused, redis_client.translated():
            await client.evalsha("ab", 0)

    assert isinstance(refused.value.__cause__, redis_connections.NotPrimary)
    assert refused.value.__cause__.word in str(refused.value) or "cluster" in str(refused.value)
    assert len(server.named("EVALSHA")) == 2


@pytest.mark.parametrize("text", KEPT, ids=lambda text: text.partition(" ")[0])
async def test_the_connection_is_kept_when_the_server_refuses_for_another_reason(
    server: fake_redis.FakeRedis, text: str
) -> None:
    """Another connection would change nothing."""
    server.replies["SET"] = [fake_redis.error(text)]

    async with redis_client.open_redis(config(server.url)) as client:
        with pytest.raises(redis.exceptions.ResponseError):
            await client.set("a", 1)
    with threaded(server.url) as other, pytest.raises(redis.exceptions.ResponseError):
        other.set("a", 1)

    assert (len(server.named("SET")), server.connections) == (2, 2)


async def test_a_pipeline_is_repeated_whole_when_one_of_its_commands_is_refused(server: fake_redis.FakeRedis) -> None:
    """Its commands are idempotent."""
    server.replies["EXPIRE"] = [fake_redis.error(MOVED["READONLY"]), b":1\r\n"]

    async with redis_client.open_redis(config(server.url)) as client:
        pipe = client.pipeline(transaction=False)
        pipe.set("a", 1)
        pipe.expire("a", 1)
        await pipe.execute()

    assert [command[0] for command in server.commands if command[0] != "PING"] == ["SET", "EXPIRE"] * 2


@pytest.mark.parametrize("role", ["slave", "replica"])
async def test_no_command_is_sent_when_the_server_says_that_it_is_a_replica(
    server: fake_redis.FakeRedis, role: str
) -> None:
    """A replica answers PING, XREAD and scripts that only read."""
    server.facts["role"] = role

    with pytest.raises(errors.QueueUnavailable, match=rf"REDIS_URL: 127.0.0.1:{server.port} is a replica \(READONLY\)"):
        async with redis_client.open_redis(config(server.url)):
            pass
    with threaded(server.url) as client, pytest.raises(redis_connections.NotPrimary):
        client.ping()

    assert server.commands == []


async def test_blocking_commands_leave_the_server_when_it_is_demoted(server: fake_redis.FakeRedis) -> None:
    """The client of blocking commands has the same connections."""
    server.replies["BLPOP"] = [fake_redis.error(MOVED["UNBLOCKED"]), b"*-1\r\n"]

    async with redis_client.open_redis(config(server.url)) as client:
        blocking = redis_client.make_blocking_client(client, max_block=1.0)
        assert await blocking.blpop(["a"], timeout=1) is None
        await blocking.aclose()

    assert len(server.named("BLPOP")) == 2


async def test_a_command_is_not_repeated_when_it_times_out(server: fake_redis.FakeRedis) -> None:
    """It may have been carried out. To Dramatiq, which knows no other, the timeout is a broken connection."""
    server.replies["RPUSH"] = [fake_redis.SILENCE]

    async with redis_client.open_redis(config(server.url, 0.2)) as client:
        with pytest.raises(redis.exceptions.TimeoutError):
            await client.rpush("a", 1)
    with threaded(server.url, 0.2) as other, pytest.raises(redis.exceptions.ConnectionError, match="Timeout"):
        other.rpush("a", 1)

    assert len(server.named("RPUSH")) == 2


def test_a_push_of_a_thread_is_not_repeated_when_its_reply_is_lost(server: fake_redis.FakeRedis) -> None:
    """It would be there twice."""
    server.replies["RPUSH"] = [fake_redis.CLOSE, b":1\r\n"]

    with threaded(server.url) as client, pytest.raises(redis.exceptions.ConnectionError):
        client.rpush("a", 1)

    assert len(server.named("RPUSH")) == 1


async def test_a_connection_is_made_when_a_proxy_refuses_hello(server: fake_redis.FakeRedis) -> None:
    """With protocol 2 in the URL, redis-py sends no HELLO of its own."""
    server.replies["HELLO"] = [fake_redis.error("ERR unknown command 'HELLO'")]

    async with redis_client.open_redis(config(f"{server.url}?protocol=2")) as client:
        assert await client.ping()


@contextlib.contextmanager
def sentinels(number: int, port: int | None) -> Iterator[list[fake_redis.FakeRedis]]:
    """Run Sentinels that name a primary at *port*, or none."""
    with contextlib.ExitStack() as stack:
        made = [fake_redis.FakeRedis() for _ in range(number)]
        for one in made:
            known = fake_redis.array(fake_redis.bulk("127.0.0.1"), fake_redis.bulk(str(port)))
            one.replies["SENTINEL"] = [known if port else b"*-1\r\n"]
            one.facts |= {"mode": "sentinel", "role": "sentinel"}
            stack.enter_context(one.running())
        yield made


def sentinel_url(made: list[fake_redis.FakeRedis], query: str = "") -> str:
    """Return the URL of Sentinels."""
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in made)
    return f"redis+sentinel://idx:p%40w@{hosts}/main/3?{query}"


async def test_each_connection_asks_sentinel_when_the_url_names_sentinels(server: fake_redis.FakeRedis) -> None:
    """The address of the primary, for asyncio and for threads; login and database are the server's."""
    with sentinels(1, server.port) as made:
        url = sentinel_url(made)
        async with redis_client.open_redis(config(url)) as client:
            await client.set("a", 1)
        with threaded(url) as other:
            other.set("a", 1)

    assert len(server.named("SET")) == 2
    asked = [["GET-MASTER-ADDR-BY-NAME", "main"], ["MASTER", "main"]]
    assert [command[1:] for command in made[0].commands] == asked * 2
    assert server.handshakes[0] == ["HELLO", "3", "AUTH", "idx", "p@w"]
    assert ["SELECT", "3"] in server.handshakes


async def test_the_new_primary_is_asked_for_when_a_command_is_refused(server: fake_redis.FakeRedis) -> None:
    """Inside the repetition, not only for the next command."""
    with fake_redis.FakeRedis().running() as new, sentinels(1, server.port) as (one,):
        known = one.replies["SENTINEL"]
        assert isinstance(known, list)
        async with redis_client.open_redis(config(sentinel_url([one]))) as client:
            server.replies["SET"] = [fake_redis.error(MOVED["READONLY"])]
            known[0] = fake_redis.array(fake_redis.bulk("127.0.0.1"), fake_redis.bulk(str(new.port)))
            await client.set("a", 1)

    assert (len(server.named("SET")), len(new.named("SET"))) == (1, 1)


async def test_the_next_sentinel_is_asked_when_one_is_silent_or_gone(server: fake_redis.FakeRedis) -> None:
    """Within half a second each; the one that answered is asked first from then on."""
    with sentinels(3, server.port) as made:
        made[0].replies["SENTINEL"] = [fake_redis.SILENCE]
        url = sentinel_url(made).replace("@", f"@127.0.0.1:{fake_redis.refuse_connections()},")
        began = time.monotonic()
        async with redis_client.open_redis(config(url)) as client:
            first = time.monotonic() - began
            await client.connection_pool.disconnect()
            began = time.monotonic()
            await client.set("a", 1)
            second = time.monotonic() - began

    assert first < 3.0
    assert second < 0.5


async def test_the_sentinel_of_a_call_that_is_given_up_is_asked_last(server: fake_redis.FakeRedis) -> None:
    """A caller with less patience than a silent Sentinel needs would never reach the next one."""
    with sentinels(2, server.port) as made:
        made[0].replies["SENTINEL"] = [fake_redis.SILENCE]
        finder = redis_sentinel.AsyncPrimaryFinder(config(sentinel_url(made)).sentinel)  # type: ignore[arg-type]  # it is one
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await finder()

        assert await finder() == ("127.0.0.1", server.port)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"*-1\r\n", 'Sentinel 127.0.0.1:.* is not known: Sentinel knows no primary "main"'),
        (fake_redis.error("NOPERM User x has no permissions to run the 'sentinel' command"), r"SENTINEL \(NOPERM\)"),
        (fake_redis.error("NOAUTH Authentication required."), r"wants a login \(NOAUTH\)"),
    ],
    ids=["unknown-service", "no-right", "no-login"],
)
async def test_the_error_says_what_a_sentinel_answered_when_none_names_a_primary(reply: bytes, says: str) -> None:
    """Not that nothing answers, though one is gone."""
    with sentinels(1, None) as made:
        made[0].replies["SENTINEL"] = [reply]
        url = sentinel_url(made).replace("@", f"@127.0.0.1:{fake_redis.refuse_connections()},")

        with pytest.raises(errors.QueueUnavailable, match=says):
            async with redis_client.open_redis(config(url)):
                pass
        with threaded(url) as client, pytest.raises(redis.exceptions.ConnectionError) as refused:
            client.ping()

    assert redis_errors.diagnose(refused.value).trouble is not redis_errors.Trouble.OTHER


async def test_opening_waits_when_redis_is_away_at_first() -> None:
    """One line in the log, not a restart every few seconds."""
    fake = fake_redis.FakeRedis()
    fake.replies["PING"] = [fake_redis.error(MOVED["LOADING"])] * 4 + [b"+PONG\r\n"]
    with fake.running(), structlog.testing.capture_logs() as logged:
        async with redis_client.open_redis(config(fake.url), start_timeout=20.0) as client:
            await client.set("a", 1)

    assert [line["event"] for line in logged] == ["waiting_for_redis", "redis_answers"]
    assert logged[0]["problem"] == f"REDIS_URL: 127.0.0.1:{fake.port} is loading its data (LOADING)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", r"refuses the login \(WRONGPASS\)"),
        ("NOAUTH HELLO must be called with the client already authenticated", r"wants a login \(NOAUTH\)"),
        ("NOPERM User x has no permissions to run the 'ping' command", r"user may not run PING \(NOPERM\)"),
    ],
    ids=lambda text: text.partition(" ")[0],
)
async def test_opening_fails_at_once_when_waiting_would_not_help(
    server: fake_redis.FakeRedis, text: str, says: str
) -> None:
    """The line keeps the server's word."""
    server.replies["PING"] = [fake_redis.error(text)]
    began = time.monotonic()

    with pytest.raises(errors.QueueUnavailable, match=says):
        async with redis_client.open_redis(config(server.url), start_timeout=60.0):
            pass

    assert time.monotonic() - began < 5.0


async def test_opening_fails_with_one_line_when_redis_stays_away() -> None:
    """It says that the port refuses; that nothing answers is said only of what is silent."""
    port = fake_redis.refuse_connections()

    with pytest.raises(errors.QueueUnavailable) as refused:
        async with redis_client.open_redis(config(f"redis://127.0.0.1:{port}"), start_timeout=0.6):
            pass

    assert str(refused.value) == f"REDIS_URL: 127.0.0.1:{port} refuses connections"


async def test_no_thread_is_left_when_clients_are_closed(server: fake_redis.FakeRedis) -> None:
    """The clients have no threads of their own."""
    before = threading.active_count()

    async with redis_client.open_redis(config(server.url)) as client:
        await client.set("a", 1)

    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(("scheme", "says"), [("redis", "does not answer$"), ("rediss", "does not answer in TLS$")])
async def test_the_line_says_that_nothing_answers_when_the_server_is_silent(scheme: str, says: str) -> None:
    """A server without TLS is silent to a client with it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(errors.QueueUnavailable, match=says):
            async with redis_client.open_redis(config(url, 0.2)):
                pass
