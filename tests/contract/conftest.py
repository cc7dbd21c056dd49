"""The stores in both of their forms: the fakes in memory, and the product's over a real server."""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

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
    schema,
    users,
)
from indexing.store import (
    database as store_database,
)
from indexing.store.rows import channels, memberships, units, user_data
from tests import clockwork, fakes, gateway_world, pairs
from tests import conftest as root_conftest
from tests.contract import old_form

KEY = b"k" * settings.KEY_BYTES
SetEnvironment: TypeAlias = Callable[..., None]
"""Called with the world and further variables by name."""


NOT_IN_ROWS = {
    "test_the_documents_of_a_user_are_counted_by_collection": "see test_rows",
    "test_the_version_grows_exactly_when_something_shown_changes": "a hash; see test_rows",
    "test_the_version_grows_by_one_when_visibility_may_change": "a hash; see test_rows",
    "test_a_late_listing_changes_nothing_when_our_bot_was_removed_meanwhile": "a hash does not grow",
    "test_a_purged_guild_accepts_listings_when_its_structure_is_unchanged": "a hash does not grow by one",
    "test_job_and_tasks_change_atomically_when_they_are_saved_together": "in two collections, one after the other",
    "test_one_listing_is_stored_when_several_are_written_at_once": "one holder of a lease writes one listing",
    "test_a_gone_channel_is_dropped_by_the_next_listing_when_its_retention_is_over": "the purge does that",
}
"""Tests of what the rows of the release before cannot do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """One of each, over the same storage."""

    users: ports.Users
    credentials: ports.Credentials
    unproven: ports.Credentials
    guilds: ports.Guilds
    jobs: ports.Jobs
    requests: ports.IdempotencyStore
    user_data: ports.UserData


@pytest.fixture(params=["memory", "server", "rows"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    """Empty stores."""
    if request.param == "rows" and request.node.originalname in NOT_IN_ROWS:
        pytest.skip(NOT_IN_ROWS[request.node.originalname])
    if request.param == "memory":
        members = fakes.MemoryUsers()
        kept, newer = pairs.MemoryCredentials(members), pairs.MemoryCredentials(members, unproven=True)
        asked = fakes.MemoryIdempotencyStore(members)
        places, work = fakes.MemoryGuilds(members), fakes.MemoryJobs()
        yield Stores(members, kept, newer, places, work, asked, fakes.MemoryUserData(members, places, work, asked))
    else:
        name = f"contract-{request.param}-{request.getfixturevalue('worker_id')}"
        config = settings.MongoSettings(url=request.getfixturevalue("mongodb_url"), database=name)
        async with store_database.open_database(config) as database:
            await root_conftest.delete_documents(database)
            state = schema.State.ROWS if request.param == "rows" else schema.State.DOCUMENTS
            yield await _over(database, state)


async def _over(database: store_database.Database, state: schema.State) -> Stores:
    await migrations.make_indexes(database, state)
    safe = credentials.Vault((KEY,))
    if state is schema.State.ROWS:
        form = schema.Schema(database, state)
        return Stores(
            memberships.RowUsers(database, safe, form, lambda: clockwork.START),
            credentials.Credentials(database, safe),
            credentials.Credentials(database, safe, slot=credentials.UNPROVEN),
            channels.RowGuilds(database, form),
            units.RowJobs(database, form, retention=3600.0),
            idempotency.MongoIdempotencyStore(database),
            user_data.RowUserData(database, form),
        )
    return Stores(
        users.Users(database, safe),
        credentials.Credentials(database, safe),
        credentials.Credentials(database, safe, slot=credentials.UNPROVEN),
        guilds.Guilds(database),
        jobs.Jobs(database, retention=3600.0),
        idempotency.MongoIdempotencyStore(database),
        erasure.MongoUserData(database),
    )


@pytest.fixture
async def empty(mongodb_url: str) -> AsyncIterator[store_database.Database]:
    """An empty database."""
    config = settings.MongoSettings(url=mongodb_url, database=f"test-{uuid.uuid4().hex}", timeout=60.0)
    async with store_database.open_database(config) as opened:
        yield opened
        await opened.client.drop_database(config.database)


@pytest.fixture
async def old(empty: store_database.Database) -> store_database.Database:
    """A database of the release before, after the first boot of this one."""
    await old_form.fill(empty)
    form = await schema.open_schema(empty)
    await migrations.make_indexes(empty, await form.state())
    return empty


@pytest.fixture
def set_environment(
    redis_settings: settings.RedisSettings, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> SetEnvironment:
    """Return what gives the product's processes in this test a simulated Discord and the real servers."""

    def set_all(world: gateway_world.World, **more: str) -> None:
        redis_url = redis_settings.url.get_secret_value()
        for name, value in gateway_world.product_environment(world, redis_url, mongodb_url, **more).items():
            monkeypatch.setenv(name, value)

    return set_all
