"""Every command to MongoDB and Redis is measured, and failures are counted."""

import contextlib
import dataclasses

import pymongo.errors
import pytest
from prometheus_client import registry

from indexing import errors, settings
from indexing.domain import freshness, model
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


async def test_a_listing_costs_one_command_when_it_is_stored(mongodb_url: str) -> None:
    """Whether it is the first, brings only messages, or changes the structure; also when its lease is lost."""
    to = registry.CollectorRegistry()
    config = settings.MongoSettings(url=mongodb_url, database="unchanged")
    async with database.open_database(config) as plain:
        await plain.client.drop_database(config.database)
    async with database.open_database(config, metrics.ServerMetrics(to)) as db:
        store = guilds.Guilds(db)
        await store.upsert_guilds([values.user_guild()], {values.GUILD})
        costs, channel = [], values.channel(1)
        for now, fields in ((1000.0, {}), (2000.0, {"last_message_id": 5}), (3000.0, {"name": "x"}), (3001.0, {})):
            known = (await store.get([values.GUILD]))[values.GUILD]
            fence = await store.acquire_lease(values.GUILD, now=now, until=now + 0.5, fetched_before=now)
            assert fence is not None
            rows = [dataclasses.replace(channel, **fields)]
            schedule = model.Schedule(fingerprint=freshness.fingerprint(rows))
            before = {name: asked(to, name) for name in COMMANDS}
            listing = model.Listing(fence if fields or now < 3000 else 1, rows, now, schedule, known)
            assert await store.store_channels(values.GUILD, listing) is (listing.fence == fence)
            costs.append({name: asked(to, name) - count for name, count in before.items()})

        assert costs == [{"find": 0, "insert": 0, "update": 1}] * 4
        assert (await store.get([values.GUILD]))[values.GUILD].fetched_at == 3000.0


async def test_a_lease_costs_one_command_unless_another_process_had_it_since(mongodb_url: str) -> None:
    """While its permit waits, each round trip counts; then the new fencing token is read first."""
    to = registry.CollectorRegistry()
    config = settings.MongoSettings(url=mongodb_url, database="leases")
    async with database.open_database(config) as plain:
        await plain.client.drop_database(config.database)
    async with database.open_database(config, metrics.ServerMetrics(to)) as db:
        store, other = guilds.Guilds(db), guilds.Guilds(db)
        await store.upsert_guilds([values.user_guild()], {values.GUILD})
        costs, fences = [], []
        for now, before_it in ((1000.0, None), (2000.0, other)):
            await store.get([values.GUILD])
            if before_it is not None:
                fences.append(await other.acquire_lease(values.GUILD, now=now, until=now, fetched_before=now))
            before = {name: asked(to, name) for name in COMMANDS}
            fences.append(await store.acquire_lease(values.GUILD, now=now, until=now + 0.5, fetched_before=now))
            costs.append({name: asked(to, name) - count for name, count in before.items()})

        assert costs == [{"find": 0, "insert": 0, "update": 1}, {"find": 1, "insert": 0, "update": 2}]
        first = fences[0] or 0
        assert fences == [first, first + 1, first + 2]


COMMANDS = ("find", "insert", "update")


def asked(to: registry.CollectorRegistry, command: str) -> float:
    """Return how many commands of a name were sent."""
    return sample(to, "indexer_mongodb_command_seconds_count", command=command)
