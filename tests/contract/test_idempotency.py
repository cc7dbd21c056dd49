"""Answers to requests that may be repeated."""

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
    """No answer yet."""
    return stores.requests


async def test_the_answer_comes_back_when_it_was_kept(requests: ports.IdempotencyStore) -> None:
    """Byte for byte, and only under its own key."""
    answered = ports.StoredResponse(fingerprint=bytes(range(256)), response=b"\x00\xff")

    await requests.store("Start:1", answered, NOW)

    assert await requests.find("Start:1") == answered
    assert await requests.find("Cancel:1") is None


async def test_the_first_answer_stays_when_two_are_kept_at_once(requests: ports.IdempotencyStore) -> None:
    """Whoever asks later is told the same as everybody, and nobody fails."""
    answers = [ports.StoredResponse(b"print", bytes([number])) for number in range(8)]
    await requests.store("key", answers[0], NOW)

    await asyncio.gather(*(requests.store("key", answered, NOW) for answered in answers[1:]))

    assert await requests.find("key") == answers[0]


async def test_an_answer_expires_after_a_day_when_it_was_kept(database: store_database.Database) -> None:
    """As a date, which is all that an index with an expiry looks at."""
    await idempotency.MongoIdempotencyStore(database).store("key", ports.StoredResponse(b"print", b"answer"), NOW)

    row = await database["requests"].find_one({"_id": "key"})

    assert row["expires_at"] == datetime.datetime(2080, 11, 29, 6, 13, 20)  # noqa: DTZ001 -- pymongo's UTC
