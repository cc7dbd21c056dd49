"""What is found at the start of a process: kind of server, memory policy, rights."""

import contextlib
import pathlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import structlog

from indexing import errors, settings
from indexing.domain import turns
from indexing.messaging import coordination, queue, redis_checks, redis_client
from indexing.ratelimit import limits, protocol, redis_store, route_limits
from tests import fake_redis, servers
from tests.contract.ratelimit import fleet

DEPLOY = pathlib.Path(__file__).parents[2] / "docs/deploy.md"
TAG = limits.Keys("app").tag
PARAMETERS = limits.LimiterParameters.from_settings(settings.LimiterSettings(), 10.0)


def documented_rules() -> list[str]:
    """Return the rules of the user in docs/deploy.md."""
    (found,) = re.findall(r"```\n(resetkeys .*?)```", DEPLOY.read_text(), re.DOTALL)
    return str(found).split()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server of this module alone, whose users and settings are changed."""
    with servers.valkey() as url:
        yield url


@contextlib.asynccontextmanager
async def user(url: str, *changes: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Open a client of a user with the documented rights, changed."""
    with contextlib.closing(redis.Redis.from_url(url)) as admin:
        command = ["ACL", "SETUSER", "idx", "reset", "on", ">pw", *documented_rules(), *changes]
        admin.execute_command(*command)  # type: ignore[no-untyped-call]  # untyped there
    async with redis_client.open_redis(settings.RedisSettings(url=url.replace("//", "//idx:pw@"))) as client:
        yield client


async def test_the_documented_rights_suffice_when_the_product_runs(server: str) -> None:
    """The check, limiter, queue, polls and elections; redis-py ignores that SETINFO is refused."""
    async with user(server) as client:
        await redis_checks.check_server(client, TAG + "check")
        store = redis_store.RedisBudgetStore(client, "app")
        request = protocol.PermitRequest("1", fleet.charge(), 0.0, route_limits.UNKNOWN, 0.0)
        await store.exchange(PARAMETERS, [], [request])
        await store.snapshot(PARAMETERS, [1])
        await store.forget_user(1)
        broker = queue.make_broker(settings.RedisSettings(url=server.replace("//", "//idx:pw@")), middleware=[])
        broker.maintenance_chance = 1_000_000
        made = queue.DramatiqQueue(broker, client)
        await made.enqueue(turns.Turn("a" * 32, 1))
        await made.schedule(turns.Turn("a" * 32, 2), 0.0)
        await queue.request_sweep(client)
        poller = queue.DelayedQueuePoller(client, made)
        await poller.enqueue_due()
        await poller.sleep(0.1)
        await poller.close()
        consumer = broker.consume(turns.QUEUE, prefetch=2, timeout=10)
        message = next(consumer)
        assert message is not None
        consumer.ack(message)
        await coordination.LeaderLock(client).try_acquire("sweep", 1.0)
        await coordination.RedisBotGuilds(client).count_question(1.0)
        broker.client.connection_pool.disconnect()

    with contextlib.closing(redis.Redis.from_url(server)) as admin:
        log: Any = admin.acl_log()
    assert {entry["object"] for entry in log} <= {"client|setinfo"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("-info", "the Redis user may not run INFO: no failover would be noticed; grant +info"),
        ("-keys", "the Redis user may not run KEYS: see docs/deploy.md"),
        ("-eval", "the Redis user may not run scripts: see docs/deploy.md"),
        ("resetkeys ~indexer:* ~dramatiq ~dramatiq:*", "the Redis user may not write {dl:*: see docs/deploy.md"),
        ("resetkeys ~{dl:* ~indexer:*", "the Redis user may not write dramatiq:*: see docs/deploy.md"),
        ("-del", "the Redis user may not write indexer:*: see docs/deploy.md"),
    ],
)
async def test_a_process_does_not_start_when_a_right_is_missing(server: str, change: str, line: str) -> None:
    """Jobs would stand still, or a failover not be noticed, and no log would say why."""
    async with user(server, *change.split()) as client:
        with pytest.raises(errors.QueueUnavailable) as refused:
            await redis_checks.check_server(client, TAG + "check")

    assert str(refused.value) == line


@pytest.mark.parametrize(("maxmemory", "starts"), [("0", True), ("100mb", False)], ids=["no-limit", "a-limit"])
async def test_a_process_does_not_start_when_keys_would_be_evicted(
    server: str,
    maxmemory: str,
    starts: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Without a limit of memory nothing is evicted yet: a warning."""
    line = "Redis evicts keys (allkeys-lru): set maxmemory-policy noeviction"
    with contextlib.closing(redis.Redis.from_url(server)) as admin:
        admin.config_set("maxmemory", maxmemory)
        admin.config_set("maxmemory-policy", "allkeys-lru")
        try:
            async with redis_client.open_redis(settings.RedisSettings(url=server)) as client:
                refusal = pytest.raises(errors.QueueUnavailable, match=re.escape(line))
                with structlog.testing.capture_logs() as logged, contextlib.nullcontext() if starts else refusal:
                    await redis_checks.check_server(client, TAG + "check")
        finally:
            admin.config_set("maxmemory", "0")
            admin.config_set("maxmemory-policy", "noeviction")

    assert (line in [entry.get("problem") for entry in logged]) is starts


async def test_a_warning_is_logged_when_redis_is_full(server: str) -> None:
    """It starts: what is full now can be mended while it runs."""
    with contextlib.closing(redis.Redis.from_url(server)) as admin:
        admin.config_set("maxmemory", "1mb")
        try:
            async with redis_client.open_redis(settings.RedisSettings(url=server)) as client:
                with structlog.testing.capture_logs() as logged:
                    await redis_checks.check_server(client, TAG + "check")
        finally:
            admin.config_set("maxmemory", "0")

    assert "Redis is full (OOM)" in [entry["problem"] for entry in logged]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"mode": "cluster"}, "REDIS_URL: Redis Cluster is not supported; use one primary, or Sentinel"),
        ({"version": "6.0.16"}, "REDIS_URL: Redis 6.0.16 is too old; 6.2 or newer is needed"),
        (
            {"mode": "sentinel", "role": "sentinel"},
            "REDIS_URL: a Sentinel listens there; begin the URL with redis+sentinel://",
        ),
    ],
    ids=["cluster", "version", "sentinel"],
)
async def test_a_process_does_not_start_when_the_server_is_of_another_kind(facts: dict[str, str], line: str) -> None:
    """In one line."""
    fake = fake_redis.FakeRedis()
    fake.facts |= facts
    fake.replies["INFO"] = [fake_redis.bulk(f"redis_version:{fake.facts['version']}\r\nmaxmemory:0\r\n")]
    with fake.running():
        async with redis_client.open_redis(settings.RedisSettings(url=fake.url)) as client:
            with pytest.raises(errors.QueueUnavailable) as refused:
                await redis_checks.check_server(client, TAG + "check")

    assert str(refused.value) == line
