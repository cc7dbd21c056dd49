"""
Two releases in a row run side by side: each reads what the other writes.

Below stands what release 0.1 wrote. It is never changed: a field that is new since must be readable when it is missing,
and a field, queue or key that is no longer written must not be needed by the release before (docs/upgrade.md).
"""

import dataclasses
import json
from typing import Any

import mongomock_motor
import mongomock_ng
import pytest

from indexing.domain import freshness, model, ports, turns
from indexing.messaging import events, queue
from indexing.store import credentials, guilds, idempotency, jobs, users
from indexing.store import database as store_database
from tests import values

JOB = "a" * 32
USER, GUILD = 200_000_000_000_000_001, 300_000_000_000_000_001
WRITTEN: dict[str, dict[str, Any]] = {
    "jobs": {
        "_id": JOB,
        "active": True,
        "attempts": 0,
        "created_at": 3_500_000_000.0,
        "error": "",
        "expires_at": None,
        "finished_at": None,
        "force": False,
        "listed": True,
        "next_turn_at": 3_500_000_002.0,
        "state": "RUNNING",
        "turn": 0,
        "unfinished": 0,
        "user_id": USER,
        "waiting_for": "",
        "waiting_until": 0.0,
    },
    "guilds": {
        "_id": GUILD,
        "access": "INSTALLED",
        "channel_count": 1,
        "error": "",
        "fence": 1,
        "fetched_at": 6.0,
        "icon": None,
        "lease_until": 0.0,
        "name": f"guild {GUILD}",
        "newest_message_id": None,
        "people": None,
        "retry_at": 0.0,
    },
}
WRITTEN["users"] = {
    "_id": USER,
    "credential": bytes.fromhex(
        "5e318f8cef27061b90cfaa824abb461c21c8b145f8bd67314e038575cf39ca987b88edd88a991c43565f078498d4aab316e45804"
    ),
    "scopes": ["guilds", "identify"],
    "expires_at": 3_500_000_000.0,
    "reauth": False,
    "pinned": [GUILD],
    "muted": [],
    "listed_at": 2.0,
}
WRITTEN["requests"] = {"_id": "key", "fingerprint": b"asked", "response": b"answered", "expires_at": None}
UPDATE: dict[str, Any] = {
    "job": {
        "job_id": JOB,
        "user_id": USER,
        "state": "RUNNING",
        "force": False,
        "turn": 0,
        "next_turn_at": 3_500_000_002.0,
        "listed": False,
        "attempts": 0,
        "error": "",
        "created_at": 3_500_000_000.0,
        "finished_at": None,
        "waiting_for": "",
        "waiting_until": 0.0,
        "unfinished": 0,
    },
    "tally": {"total": 1, "queued": 1, "running": 0, "succeeded": 0, "skipped": 0, "failed": 0, "cancelled": 0},
    "units": [
        {
            "guild_id": GUILD,
            "name": f"guild {GUILD}",
            "state": "QUEUED",
            "step": "CHANNELS",
            "position": 0,
            "score": 0.5,
            "attempts": 0,
            "retry_at": 0.0,
            "error": "",
            "channel_count": None,
            "revision": 1,
        }
    ],
    "position": "",
}
TOMORROW = {"brand_new": {"nested": [1, None]}}


@pytest.fixture(params=[{}, TOMORROW], ids=["of 0.1", "of tomorrow"])
async def database(request: pytest.FixtureRequest) -> store_database.Database:
    """A database with one document of each kind, as 0.1 wrote it, or with a field that we do not know."""
    client = mongomock_motor.AsyncMongoMockClient(mock_mongo_client=mongomock_ng.MongoClient())
    for name, document in WRITTEN.items():
        await client["indexer"][name].insert_one({**document, **request.param})
    return client["indexer"]


async def test_a_job_goes_on_when_another_release_began_it(database: store_database.Database) -> None:
    """Its turn is taken, and fields that this release does not know are kept."""
    store = jobs.Jobs(database, retention=3600.0)
    before = await database["jobs"].find_one({})

    owned = await store.begin_turn(JOB, 0, now=1.0, until=2.0)
    assert owned is not None
    saved = await store.save(owned[0], dataclasses.replace(owned[0], attempts=1))

    after = await database["jobs"].find_one({})
    assert saved
    assert owned == (values.job(JOB, turn=1, next_turn_at=2.0, listed=True, unfinished=1), [])
    assert {**before, **after} == after
    assert (await store.get(JOB)) == dataclasses.replace(owned[0], attempts=1)


async def test_a_guild_is_read_and_fetched_when_another_release_wrote_it(database: store_database.Database) -> None:
    """Name, access and times; the next listing is stored over it, and unknown fields are kept."""
    store = guilds.Guilds(database)
    before = await database["guilds"].find_one({})
    rows = [values.channel(7)]

    found = (await store.load([GUILD]))[GUILD]
    fence = await store.acquire_lease(GUILD, now=8.0, until=9.0, fetched_before=7.0)
    assert fence is not None
    schedule = model.Schedule(fingerprint=freshness.fingerprint(rows))
    written = await store.store_channels(GUILD, model.Listing(fence, rows, 8.0, schedule, found.guild))

    after, guild = await database["guilds"].find_one({}), (await store.load([GUILD]))[GUILD]
    assert (found.guild.name, found.guild.access, found.guild.fetched_at) == (
        f"guild {GUILD}",
        model.Access.INSTALLED,
        6.0,
    )
    assert (written, guild.channels, guild.guild.fetched_at) == (True, (values.channel(7),), 8.0)
    assert guild.version > found.version
    assert {**before, **after} == after


async def test_a_user_need_not_log_in_again_when_another_release_stored_their_tokens(
    database: store_database.Database,
) -> None:
    """They can be decrypted and locked for renewal, and the preferences apply."""
    safe = credentials.Vault((b"k" * 32,))
    store = credentials.Credentials(database, safe)

    held = await store.get(USER)
    version = await store.lock(USER, version=held.version, now=1.0, until=2.0)

    pair = ports.Credential("access", "refresh", 3_500_000_000.0, ("guilds", "identify"))
    assert (held.credential, held.version, held.refused) == (pair, None, False)
    assert version is not None
    user = await users.Users(database, safe).load(USER)
    assert user is not None
    assert (user.preferences, user.listed_at, user.memberships) == (model.Preferences((GUILD,), ()), 2.0, {})


async def test_a_request_is_answered_as_before_when_another_release_answered_it(
    database: store_database.Database,
) -> None:
    """A caller that repeats itself does not notice the rollout."""
    assert await idempotency.MongoIdempotencyStore(database).find(["key"]) == ports.StoredResponse(
        b"asked", b"answered"
    )


@pytest.mark.parametrize("more", [{}, TOMORROW], ids=["of 0.1", "of tomorrow"])
def test_progress_is_read_when_another_release_published_it(more: dict[str, object]) -> None:
    """Fields that we do not know, at every level, are ignored."""
    job, (unit,) = UPDATE["job"], UPDATE["units"]
    published = {**UPDATE, "job": {**job, **more}, "units": [{**unit, **more}], **more}

    update = events.decode(b"3-0", {b"u": json.dumps(published).encode(), b"new": b""})

    assert update is not None
    assert (update.position, update.job.job_id, update.tasks) == ("3-0", JOB, (values.task(),))


def test_what_cannot_be_read_is_passed_over_when_it_was_published() -> None:
    """A state of tomorrow must not hold up the other jobs of the process; the job's end brings all rows again."""
    job = {**UPDATE["job"], "state": "PAUSED"}

    assert events.decode(b"3-0", {b"u": json.dumps({**UPDATE, "job": job}).encode()}) is None


@pytest.mark.parametrize("more", [{}, TOMORROW], ids=["of 0.1", "of tomorrow"])
def test_a_turn_is_understood_when_another_release_sent_it(more: dict[str, object]) -> None:
    """The names by which producers and consumers find each other are as they were."""
    assert turns.parse({"job_id": JOB, "number": 3, **more}) == turns.Turn(JOB, 3)
    assert (turns.ACTOR, turns.QUEUE) == ("run_turn", "background")
    assert {"job_id": JOB, "number": 3}.items() <= turns.Turn(JOB, 3).payload().items()
    assert (queue.WAITING, queue.WAKE) == ("indexer:{turns}:waiting", "indexer:{turns}:wake")
