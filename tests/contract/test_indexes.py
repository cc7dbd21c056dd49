"""Indexes as the server reports them. The table is written by hand: it is a second opinion, not a copy of the code."""

from typing import Any

import pytest

from indexing.store import database as store_database
from indexing.store import migrations

EXPIRES = {"key": [("expires_at", 1)], "expireAfterSeconds": 0}
"""A document is deleted at the moment that it names, which must be a date."""
INDEXES: dict[str, list[dict[str, Any]]] = {
    "erased_jobs": [EXPIRES],
    "guilds": [
        {"key": [("next_refresh_at", 1)], "partialFilterExpression": {"next_refresh_at": {"$gt": 0}}},
        {"key": [("looked_at", 1)]},
        {"key": [("oldest_gone_at", 1)], "partialFilterExpression": {"oldest_gone_at": {"$gt": 0}}},
        {"key": [("shard", 1)], "partialFilterExpression": {"shard": {"$gt": ""}}},
    ],
    "jobs": [
        {"key": [("user_id", 1)], "unique": True, "partialFilterExpression": {"active": True}},
        {"key": [("user_id", 1), ("created_at", -1)]},
        {"key": [("next_turn_at", 1)], "partialFilterExpression": {"active": True}},
        EXPIRES,
    ],
    "requests": [
        EXPIRES,
        {"key": [("user_id", 1)], "partialFilterExpression": {"user_id": {"$gt": 0}}},
    ],
    "rosters": [{"key": [("guild_ids", 1)]}],
    "users": [
        {"key": [("reauth", 1)], "partialFilterExpression": {"reauth": True}},
        {"key": [("erased_at", 1)], "partialFilterExpression": {"erased": {"$gt": 0}}},
    ],
}
OPTIONS = {"key", "unique", "sparse", "partialFilterExpression", "expireAfterSeconds"}
"""What decides how an index behaves; its name and the version of its format do not."""


@pytest.fixture
async def database(empty: store_database.Database) -> store_database.Database:
    """A new database after a boot."""
    await migrations.make_indexes(empty)
    return empty


async def indexes(database: store_database.Database) -> dict[str, list[dict[str, Any]]]:
    """Return the indexes of every collection but those on `_id`, in a stable order."""
    found = {}
    for name in await database.list_collection_names():
        listed = [index for key, index in (await database[name].index_information()).items() if key != "_id_"]
        found[name] = in_order([{key: index[key] for key in OPTIONS & index.keys()} for index in listed])
    return found


def in_order(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the indexes sorted by content."""
    return sorted(listed, key=lambda index: repr(sorted(index.items())))


async def test_every_index_has_its_keys_and_options_when_the_database_is_new(database: store_database.Database) -> None:
    """Queries need the keys, one active job a user the uniqueness, and retention the expiry."""
    assert await indexes(database) == {name: in_order(listed) for name, listed in INDEXES.items()}


async def test_indexes_stay_when_another_process_makes_them_again(database: store_database.Database) -> None:
    """Each process makes them at each boot."""
    await migrations.make_indexes(database)

    assert await indexes(database) == {name: in_order(listed) for name, listed in INDEXES.items()}
