"""Stored responses to requests that may be repeated."""

import asyncio
import datetime

import pytest

from indexing.domain import ports
from indexing.store import database as store_database
from indexing.store import idempotency
from tests import clockwork
from tests.contract import conftest

NOW = clockwork.START


@pytest.fixture
def requests(stores: conftest.Stores) -> ports.IdempotencyStore:
    """An empty store."""
    return stores.requests


async def test_the_response_is_found_when_it_was_stored(requests: ports.IdempotencyStore) -> None:
    """Byte for byte, and only under its own key."""
    answered = ports.StoredResponse(fingerprint=bytes(range(256)), response=b"\x00\xff")

    await requests.store("Start:1", answered, NOW)

    assert await requests.find(["Start:1"]) == answered
    assert await requests.find(["Cancel:1"]) is None


async def test_the_response_of_the_first_key_is_found_when_both_keys_have_one(requests: ports.IdempotencyStore) -> None:
    """Else that of the key that has one."""
    for key, body in (("Start:1", b"all"), ("a:Start:1", b"own"), ("Start:2", b"before")):
        await requests.store(key, ports.StoredResponse(b"print", body), NOW)

    found = [await requests.find([f"a:Start:{number}", f"Start:{number}"]) for number in (1, 2)]

    assert [stored.response for stored in found if stored] == [b"own", b"before"]


async def test_the_first_response_stays_when_several_are_stored_at_once(requests: ports.IdempotencyStore) -> None:
    """All repetitions get the same response, and none fails."""
    answers = [ports.StoredResponse(b"print", bytes([number])) for number in range(8)]
    await requests.store("key", answers[0], NOW)

    await asyncio.gather(*(requests.store("key", answered, NOW) for answered in answers[1:]))

    assert await requests.find(["key"]) == answers[0]


async def test_a_response_expires_after_a_day_when_it_was_stored(database: store_database.Database) -> None:
    """As a date, the only type that a TTL index expires."""
    await idempotency.MongoIdempotencyStore(database).store("key", ports.StoredResponse(b"print", b"answer"), NOW)

    row = await database["requests"].find_one({"_id": "key"})

    assert row["expires_at"] == datetime.datetime(2080, 11, 29, 6, 13, 20)  # noqa: DTZ001 -- pymongo's UTC
