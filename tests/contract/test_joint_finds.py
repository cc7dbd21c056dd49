"""Finds that travel together, over a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from indexing import errors, settings
from indexing.store import database
from indexing.telemetry import metric_types, metrics


@pytest.fixture
def measured() -> metrics.Metrics:
    """The metrics of a process."""
    return metrics.Metrics(metric_types.new_registry(), [])


@pytest.fixture
async def db(mongodb_url: str, measured: metrics.Metrics) -> AsyncIterator[database.Database]:
    """A measured database with one user and sixty guilds, whose versions are their ids."""
    config = settings.MongoSettings(url=mongodb_url, database="joint_finds")
    async with database.open_database(config, measured.servers) as opened:
        for name, count in (("users", 1), ("guilds", 60)):
            await opened[name].delete_many({})
            await opened[name].insert_many([{"_id": key, "version": key, "name": "x"} for key in range(1, count + 1)])
        yield opened


async def test_each_find_has_its_own_rows_when_several_travel_together(
    db: database.Database, measured: metrics.Metrics
) -> None:
    """Only the fields that were asked for, of the documents that exist; each is measured as a find."""
    seconds = measured.servers.mongodb.labels("find")
    before = _count(seconds)

    users, guilds = await asyncio.gather(
        database.find_small(db["users"], [1, 2], {"version": 1}),
        database.find_small(db["guilds"], range(1, 100), {"version": 1}),
    )

    assert users == [{"_id": 1, "version": 1}]
    assert sorted(row["_id"] for row in guilds) == [*range(1, 61)]
    assert all(row == {"_id": row["_id"], "version": row["_id"]} for row in guilds)
    assert _count(seconds) - before == 1 + 4  # 99 ids in parts of 25


async def test_a_find_alone_fails_when_another_travels_with_it(db: database.Database) -> None:
    """The others have their rows."""
    broken, users = await asyncio.gather(
        database.find_small(db["guilds"], [1], {"version": {"$nothing": 1}}),
        database.find_small(db["users"], [1], {"version": 1}),
        return_exceptions=True,
    )

    assert isinstance(broken, errors.StoreUnavailable)
    assert users == [{"_id": 1, "version": 1}]


async def test_the_others_have_their_rows_when_a_caller_leaves(db: database.Database) -> None:
    """Cancelling one find ends no other."""
    leaving = asyncio.create_task(database.find_small(db["guilds"], [1], {"version": 1}))
    staying = asyncio.create_task(database.find_small(db["users"], [1], {"version": 1}))
    await asyncio.sleep(0)
    leaving.cancel()

    assert await staying == [{"_id": 1, "version": 1}]


def _count(histogram: metric_types.Histogram) -> float:
    (metric,) = histogram.collect()
    return next(sample.value for sample in metric.samples if sample.name.endswith("_count"))
