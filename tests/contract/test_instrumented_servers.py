"""Every command to MongoDB and Redis is measured, and failures are counted."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator

import pymongo.errors
import pytest
from prometheus_client import registry

from indexing import errors, settings
from indexing.domain import freshness, model
from indexing.messaging import redis_client
from indexing.store import credentials, database, guilds, users
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

    assert {name: asked(to, name) for name in COMMANDS} == {"find": 2, "insert": 2, "update": 1}
    failed = {name: sample(to, "indexer_mongodb_errors_total", command=name) for name in COMMANDS}
    assert failed == {"find": 0, "insert": 0, "update": 1}


async def test_a_listing_costs_one_command_when_it_is_stored(mongodb_url: str) -> None:
    """Whether it is the first, brings only messages, or changes the structure; also when its lease is lost."""
    async with counting(mongodb_url, "unchanged") as (db, costs):
        store = guilds.Guilds(db)
        await store.upsert_guilds([values.user_guild()], {values.GUILD})
        channel = values.channel(1)
        for now, fields in ((1000.0, {}), (2000.0, {"last_message_id": 5}), (3000.0, {"name": "x"}), (3001.0, {})):
            known = (await store.get([values.GUILD]))[values.GUILD]
            fence = await store.acquire_lease(values.GUILD, now=now, until=now + 0.5, fetched_before=now)
            assert fence is not None
            rows = [dataclasses.replace(channel, **fields)]
            schedule = model.Schedule(fingerprint=freshness.fingerprint(rows))
            listing = model.Listing(fence if fields or now < 3000 else 1, rows, now, schedule, known)
            with costs.next():
                assert await store.store_channels(values.GUILD, listing) is (listing.fence == fence)

        assert costs.seen == [{"find": 0, "insert": 0, "update": 1}] * 4
        assert (await store.get([values.GUILD]))[values.GUILD].fetched_at == 3000.0


async def test_a_lease_costs_one_command_unless_another_process_had_it_since(mongodb_url: str) -> None:
    """While its permit waits, each round trip counts; then the new fencing token is read first."""
    async with counting(mongodb_url, "leases") as (db, costs):
        store, other = guilds.Guilds(db), guilds.Guilds(db)
        await store.upsert_guilds([values.user_guild()], {values.GUILD})
        fences = []
        for now, before_it in ((1000.0, None), (2000.0, other)):
            await store.get([values.GUILD])
            if before_it is not None:
                fences.append(await other.acquire_lease(values.GUILD, now=now, until=now, fetched_before=now))
            with costs.next():
                fences.append(await store.acquire_lease(values.GUILD, now=now, until=now + 0.5, fetched_before=now))

        assert costs.seen == [{"find": 0, "insert": 0, "update": 1}, {"find": 1, "insert": 0, "update": 2}]
        first = fences[0] or 0
        assert fences == [first, first + 1, first + 2]


async def test_the_guilds_of_a_list_cost_two_commands_when_they_are_stored_and_returned(mongodb_url: str) -> None:
    """One when all of them are as they were; only one that has changed is read again."""
    async with counting(mongodb_url, "listed") as (db, costs):
        store = guilds.Guilds(db)
        for names in (["a", "b"], ["a", "b"], ["a", "x"]):
            rows = [values.user_guild(number, name=name) for number, name in enumerate(names, 1)]
            with costs.next():
                found, _ = await store.upsert_guilds(rows, {1, 2})
            assert [found[number].name for number in (1, 2)] == names

    assert costs.seen == [
        {"find": 1, "insert": 1, "update": 0},
        {"find": 1, "insert": 0, "update": 0},
        {"find": 2, "insert": 0, "update": 1},
    ]


async def test_a_first_guild_list_costs_two_commands_when_it_is_stored(mongodb_url: str) -> None:
    """The roster is inserted; one that is there, because the process ended in between, grows by another command."""
    async with counting(mongodb_url, "rosters") as (db, costs):
        await db["rosters"].insert_one({"_id": 2, "guild_ids": [9]})
        store = users.Users(db, credentials.Vault((b"k" * 32,)))
        for user_id in (1, 2):
            await store.put_credential(user_id, values.credential())
            known = await store.load(user_id)
            assert known is not None
            with costs.next():
                assert await store.replace_guild_list(known, [values.user_guild(7)], 5.0)
        rosters = [row["guild_ids"] for row in await db["rosters"].find({}).sort("_id", 1).to_list(None)]

    assert costs.seen == [{"find": 0, "insert": 1, "update": 1}, {"find": 0, "insert": 1, "update": 2}]
    assert rosters == [[7], [9, 7]]


COMMANDS = ("find", "insert", "update")


class Costs:
    """Counts commands by name: `seen` has those of each block."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        self._to = to
        self.seen: list[dict[str, float]] = []

    @contextlib.contextmanager
    def next(self) -> Iterator[None]:
        """Count the commands of a block."""
        before = {name: asked(self._to, name) for name in COMMANDS}
        yield
        self.seen.append({name: asked(self._to, name) - count for name, count in before.items()})


@contextlib.asynccontextmanager
async def counting(url: str, name: str) -> AsyncIterator[tuple[database.Database, Costs]]:
    """Open an empty database whose commands can be counted."""
    to = registry.CollectorRegistry()
    config = settings.MongoSettings(url=url, database=name)
    async with database.open_database(config) as plain:
        await plain.client.drop_database(name)
    async with database.open_database(config, metrics.ServerMetrics(to)) as db:
        yield db, Costs(to)


def asked(to: registry.CollectorRegistry, command: str) -> float:
    """Return how many commands of a name were sent."""
    return sample(to, "indexer_mongodb_command_seconds_count", command=command)
