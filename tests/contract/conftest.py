"""The stores in both of their forms: the fakes in memory, and the product's over a real server."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from indexing import settings
from indexing.domain import ports
from indexing.store import (
    credentials,
    erasure,
    guilds,
    idempotency,
    jobs,
    migrations,
    users,
)
from indexing.store import (
    database as store_database,
)
from tests import fakes, pairs

KEY = b"k" * settings.KEY_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """One of each, over the same storage."""

    users: ports.Users
    credentials: ports.Credentials
    guilds: ports.Guilds
    jobs: ports.Jobs
    requests: ports.IdempotencyStore
    user_data: ports.UserData


@pytest.fixture(params=["memory", "server"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    """Empty stores."""
    if request.param == "memory":
        members = fakes.MemoryUsers()
        kept, asked = pairs.MemoryCredentials(members), fakes.MemoryIdempotencyStore(members)
        places, work = fakes.MemoryGuilds(members), fakes.MemoryJobs()
        yield Stores(members, kept, places, work, asked, fakes.MemoryUserData(members, places, work, asked))
    else:
        config = settings.MongoSettings(url=request.getfixturevalue("mongodb_url"), database="contract")
        async with store_database.open_database(config) as database:
            await database.client.drop_database(config.database)
            yield await _over(database)


async def _over(database: store_database.Database) -> Stores:
    await migrations.make_indexes(database)
    safe = credentials.Vault((KEY,))
    return Stores(
        users.Users(database, safe),
        credentials.Credentials(database, safe),
        guilds.Guilds(database),
        jobs.Jobs(database, retention=3600.0),
        idempotency.MongoIdempotencyStore(database),
        erasure.MongoUserData(database),
    )
