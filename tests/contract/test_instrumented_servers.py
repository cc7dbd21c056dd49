"""Every command to MongoDB and Redis is measured, and failures are counted."""

import contextlib

import pymongo.errors
import pytest
from prometheus_client import registry

from indexing import errors, settings
from indexing.messaging import redis_client
from indexing.store import database, guilds
from indexing.telemetry import metrics
from tests import servers, values


def sample(to: registry.CollectorRegistry, name: str, **labels: str) -> float:
    """Return a sample that must be there."""
    found = to.get_sample_value(name, labels)
    assert found is not None
    return found


async def test_commands_to_redis_are_measured_when_they_are_answered(redis_settings: settings.RedisSettings) -> None:
    """A pipeline counts once, because it is one round trip."""
    to = registry.CollectorRegistry()
    async with redis_client.open_redis(redis_settings, metrics.ServerMetrics(to)) as client:
        before = sample(to, "indexer_redis_command_seconds_count")

        await client.get("a")
        pipe = client.pipeline()
        pipe.get("a")
        pipe.get("b")
        await pipe.execute()

        assert sample(to, "indexer_redis_command_seconds_count") == before + 2
        assert sample(to, "indexer_redis_errors_total") == 0


async def test_a_failure_is_counted_when_redis_is_unreachable() -> None:
    """Also while connecting."""
    to = registry.CollectorRegistry()
    config = settings.RedisSettings(url=f"redis://127.0.0.1:{servers.free_port()}/0", timeout=0.2)

    with pytest.raises(errors.QueueUnavailable):
        async with redis_client.open_redis(config, metrics.ServerMetrics(to)):
            pass

    assert sample(to, "indexer_redis_errors_total") >= 1


async def test_commands_to_mongodb_are_measured_by_name_when_they_end(mongodb_url: str) -> None:
    """A command that the server rejects counts as a failure, except a lost race for a unique key."""
    to = registry.CollectorRegistry()
    config = settings.MongoSettings(url=mongodb_url, database="measured")
    async with database.open_database(config, metrics.ServerMetrics(to)) as db:
        things = db["things"]
        await things.find_one({})
        await things.find({}).sort("_id", 1).limit(1).to_list(None)
        await things.delete_many({})
        await things.insert_one({"_id": 1})
        with contextlib.suppress(pymongo.errors.DuplicateKeyError):
            await things.insert_one({"_id": 1})
        with contextlib.suppress(pymongo.errors.OperationFailure):
            await things.update_one({"_id": 1}, {"$nonsense": {"a": 1}})

    assert {name: asked(to, name) for name in ("find", "insert", "update")} == {"find": 2, "insert": 2, "update": 1}
    failed = {name: sample(to, "indexer_mongodb_errors_total", command=name) for name in ("find", "insert", "update")}
    assert failed == {"find": 0, "insert": 0, "update": 1}


async def test_a_channel_list_costs_two_commands_when_it_is_unchanged(mongodb_url: str) -> None:
    """Most lists are: the stored channels are read, and the guild is updated together with the end of the lease."""
    to = registry.CollectorRegistry()
    config = settings.MongoSettings(url=mongodb_url, database="unchanged")
    async with database.open_database(config) as plain:
        await plain.client.drop_database(config.database)
    async with database.open_database(config, metrics.ServerMetrics(to)) as db:
        store = guilds.Guilds(db)
        await store.upsert_guilds([values.user_guild()], {values.GUILD})
        for now in (1000.0, 2000.0):
            fence = await store.acquire_lease(values.GUILD, now=now, until=now + 25, fetched_before=now)
            assert fence is not None
            before = {name: asked(to, name) for name in ("find", "insert", "update")}
            await store.store_channels(values.GUILD, fence=fence, channels=[values.channel(1)], now=now)

        assert {name: asked(to, name) - count for name, count in before.items()} == {
            "find": 1,
            "insert": 0,
            "update": 1,
        }
        assert (await store.get([values.GUILD]))[values.GUILD].fetched_at == 2000.0


def asked(to: registry.CollectorRegistry, command: str) -> float:
    """Return how many commands of a name were sent."""
    return sample(to, "indexer_mongodb_command_seconds_count", command=command)
