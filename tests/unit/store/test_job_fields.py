"""A job's document, field by field, and what an erasure leaves of a user's documents."""

import datetime
from typing import Any

import pymongo.errors
import pytest

from indexing import errors
from indexing.domain import job_updates, model, ports
from indexing.store import database as store_database
from indexing.store import erasure, idempotency, jobs, tombstones
from tests import clockwork, values

NOW = clockwork.START
USER, GUILD = values.USER, values.GUILD
JOB = "a" * 32
DAY = datetime.timedelta(days=1)
STARTED = {
    "_id": JOB,
    "user_id": USER,
    "state": "RUNNING",
    "active": True,
    "force": False,
    "turn": 0,
    "next_turn_at": NOW + 2,
    "listed": False,
    "attempts": 0,
    "error": "",
    "created_at": NOW,
    "finished_at": None,
    "expires_at": None,
    "waiting_for": "",
    "waiting_until": 0.0,
    "waited_for": "",
    "unfinished": 0,
    "cancelled_by": "",
    "callers": [],
    "guilds": b"",
    "tasks": {},
}


async def document(database: store_database.Database, name: str = "jobs") -> dict[str, Any]:
    """Return the only document of a collection."""
    (row,) = await database[name].find({}, {"by": 0}).to_list(None)
    assert isinstance(row, dict)
    return row


@pytest.fixture
def store(database: store_database.Database) -> jobs.Jobs:
    """A store that keeps ended jobs for an hour."""
    return jobs.Jobs(database, retention=3600.0)


async def test_a_job_starts_active_without_turn_and_tasks(database: store_database.Database, store: jobs.Jobs) -> None:
    """It expires only after its end."""
    await store.create_or_join(values.job(JOB))

    assert await document(database) == STARTED


async def test_a_turn_takes_the_job_over_and_ends_its_wait(database: store_database.Database, store: jobs.Jobs) -> None:
    """It counts as unfinished until it says how it ended; its writes are numbered from one."""
    await store.create_or_join(values.job(JOB, waiting_for="global", waiting_until=NOW + 9))

    await store.begin_turn(JOB, 0, now=NOW + 3, until=NOW + 43)

    assert await document(database) == STARTED | {
        "turn": 1,
        "next_turn_at": NOW + 43,
        "began_at": NOW + 3,
        "waiting_for": "",
        "waiting_until": 0.0,
        "unfinished": 1,
        "step": 0,
    }


async def test_the_list_of_guilds_ends_the_attempts_to_read_it(
    database: store_database.Database, store: jobs.Jobs
) -> None:
    """With the tasks, in one write."""
    job, _ = await store.create_or_join(values.job(JOB, attempts=3, reason="DISCORD_UNAVAILABLE"))

    await store.add_tasks(job, [values.task(GUILD, position=4)])

    row = await document(database)
    assert row["tasks"].keys() == {str(GUILD)}
    assert row["guilds"]
    assert {name: row[name] for name in ("listed", "attempts", "error", "schema")} == {
        "listed": True,
        "attempts": 0,
        "error": "",
        "schema": 1,
    }


async def test_a_postponed_job_keeps_its_count_unless_one_is_given(
    database: store_database.Database, store: jobs.Jobs
) -> None:
    """The sweeper changes the due time; only the turn says whether it finished."""
    job, _ = await store.create_or_join(values.job(JOB, unfinished=2))

    await store.postpone(job, NOW + 50)
    first = await document(database)
    await store.postpone(job, NOW + 60, unfinished=0)

    assert first == STARTED | {"next_turn_at": NOW + 50, "unfinished": 2}
    assert await document(database) == STARTED | {"next_turn_at": NOW + 60, "unfinished": 0}


async def test_jobs_that_wait_for_a_budget_are_overdue_when_its_wait_ended(
    database: store_database.Database, store: jobs.Jobs
) -> None:
    """By ten seconds, so that the next sweep enqueues them; those of other budgets, due or ended ones stay."""
    for number, changes in enumerate(
        [
            {"waiting_for": "global", "next_turn_at": NOW + 1},
            {"waiting_for": "global", "next_turn_at": NOW},
            {"waiting_for": "user", "next_turn_at": NOW + 1},
            {"waiting_for": "global", "next_turn_at": NOW + 1, "state": model.JobState.FAILED},
        ]
    ):
        await store.create_or_join(values.job(str(number), user_id=USER + number, **changes))

    assert await jobs.end_waits(database, ["global"], NOW) == 1

    rows = await database["jobs"].find({}).sort("_id", 1).to_list(None)
    assert [row["next_turn_at"] - NOW for row in rows] == [-10.0, 0.0, 1.0, 1.0]


def test_a_job_of_which_the_older_fields_are_stored_has_the_defaults_of_the_others() -> None:
    """The release before may have stored it."""
    oldest = {"_id", "user_id", "state", "turn", "next_turn_at", "created_at"}

    assert jobs.job_of({name: STARTED[name] for name in oldest}) == values.job(JOB)


@pytest.mark.parametrize("format_number", [None, 1])
def test_tasks_are_read_by_position(format_number: int | None) -> None:
    """A document without a number is of the first format."""
    row = STARTED | jobs.packed_tasks([values.task(8, position=2), values.task(7, position=3), values.task(9)])
    row["schema"] = format_number
    if format_number is None:
        del row["schema"]

    assert jobs.tasks_of(row) == [values.task(9), values.task(8, position=2), values.task(7, position=3)]


def test_an_open_task_of_an_ended_job_has_the_job_s_reason_and_a_last_revision() -> None:
    """A watcher that has seen any revision of the turn gets this one; an ended task stays as it is."""
    done = values.task(7, state=model.TaskState.SUCCEEDED, revision=5)
    open_, late = values.task(8, position=1, retry_at=NOW + 5), values.task(9, position=2, revision=1 << 60)
    row = STARTED | {"state": "FAILED", "error": "NO_ACCESS", "turn": 3} | jobs.packed_tasks([done, open_, late])

    found = jobs.tasks_of(row)

    last = job_updates.revision_of(3, job_updates.LAST_STEPS)
    assert found[0] == done
    assert [(task.state, task.reason, task.retry_at) for task in found[1:]] == [
        (model.TaskState.FAILED, "NO_ACCESS", 0.0)
    ] * 2
    assert [task.revision for task in found[1:]] == [last, (1 << 60) + 1]


async def test_a_start_fails_when_three_jobs_of_the_user_ended_before_it_could_join(store: jobs.Jobs) -> None:
    """Three attempts; the caller repeats the call."""

    class Ending:
        inserts = 0

        async def insert_one(self, _: object) -> None:
            self.inserts += 1
            message = "a job is active"
            raise pymongo.errors.DuplicateKeyError(message)

        async def find_one(self, *_: object) -> None:
            return None

    store._jobs = ending = Ending()

    with pytest.raises(errors.StoreUnavailable):
        await store.create_or_join(values.job())

    assert ending.inserts == 3


async def test_a_tombstone_has_a_version_above_the_erased_one(database: store_database.Database) -> None:
    """Of the document, or of the clock when that is later; it says when it was made, for the purge."""
    version = 1 << 60
    await database["users"].insert_one({"_id": USER, "version": version, "pinned": [1]})

    await erasure.MongoUserData(database).erase_user(USER)

    row = await document(database, "users")
    age = datetime.datetime.now(tz=datetime.UTC) - row.pop("erased_at").replace(tzinfo=datetime.UTC)
    assert row == {"_id": USER, "version": version + 1, "erased": version + 1}
    assert datetime.timedelta(seconds=-1) < age < datetime.timedelta(minutes=5)


def test_a_document_is_a_tombstone_only_while_nothing_was_stored_after_the_erasure() -> None:
    """A write of a user who has returned makes a higher version."""
    rows: list[dict[str, Any]] = [
        {},
        {"version": 4},
        {"version": 4, "erased": 4},
        {"version": 5, "erased": 4},
        {"erased": None},
    ]

    assert [tombstones.is_tombstone(row) for row in rows] == [False, False, True, False, False]
    assert tombstones.of_user({"version": 1 << 60})["version"] == (1 << 60) + 1
    assert tombstones.of_user({})["version"] > 10**15


@pytest.mark.parametrize(
    ("age", "changed", "left"),
    [
        pytest.param(DAY - datetime.timedelta(minutes=5), {}, (1, 1), id="younger"),
        pytest.param(DAY + datetime.timedelta(minutes=5), {}, (0, 0), id="older"),
        pytest.param(DAY + datetime.timedelta(minutes=5), {"version": 8}, (1, 1), id="returned"),
    ],
)
async def test_tombstones_are_purged_after_a_day(
    database: store_database.Database, age: datetime.timedelta, changed: dict[str, int], left: tuple[int, int]
) -> None:
    """With the empty roster of the same erasure; a user who has returned keeps both."""
    at = datetime.datetime.now(tz=datetime.UTC) - age
    await database["users"].insert_one({"_id": USER, "version": 7, "erased": 7, "erased_at": at} | changed)
    await database["rosters"].insert_one({"_id": USER, "erased": 7})

    purged = await erasure.MongoUserData(database).purge()

    counts = [await database[name].count_documents({}) for name in ("users", "rosters")]
    assert (tuple(counts), purged) == (left, 2 - sum(left))


@pytest.mark.parametrize("roster", [{"erased": 6}, {"erased": 7, "guild_ids": [GUILD]}])
async def test_a_roster_stays_when_it_is_not_that_of_the_purged_erasure(
    database: store_database.Database, roster: dict[str, Any]
) -> None:
    """It names guilds that an erasure must look at, or a later erasure."""
    at = datetime.datetime.now(tz=datetime.UTC) - 2 * DAY
    await database["users"].insert_one({"_id": USER, "version": 7, "erased": 7, "erased_at": at})
    await database["rosters"].insert_one({"_id": USER, **roster})

    assert await erasure.MongoUserData(database).purge() == 1

    assert await document(database, "rosters") == {"_id": USER, **roster}


async def test_the_tombstone_of_a_job_is_kept_for_a_day(database: store_database.Database) -> None:
    """A turn that was queued before the erasure finds it; the index deletes it at its moment."""
    data = erasure.MongoUserData(database)

    await data.erase_jobs([JOB])

    row = await document(database, "erased_jobs")
    left = row["expires_at"].replace(tzinfo=datetime.UTC) - datetime.datetime.now(tz=datetime.UTC)
    assert row["_id"] == JOB
    assert DAY - datetime.timedelta(minutes=5) < left <= DAY


@pytest.mark.parametrize("user", [None, {"version": 7, "erased": 7}], ids=["none", "tombstone"])
async def test_a_response_is_not_kept_when_its_user_is_erased(
    database: store_database.Database, user: dict[str, int] | None
) -> None:
    """One without a user, or with a known one, is kept for 24 hours."""
    if user is not None:
        await database["users"].insert_one({"_id": USER, **user})
    await database["users"].insert_one({"_id": USER + 1, "version": 8, "erased": 7})
    store = idempotency.MongoIdempotencyStore(database)
    for user_id in (None, USER, USER + 1):
        await store.store(str(user_id), ports.StoredResponse(b"print", b"answer", user_id), NOW)

    rows = await database["requests"].find({}).to_list(None)
    expires_at = datetime.datetime.fromtimestamp(NOW, tz=datetime.UTC).replace(tzinfo=None) + DAY
    assert sorted(rows, key=lambda row: str(row["_id"])) == [
        {"_id": name, "fingerprint": b"print", "response": b"answer", "user_id": user_id, "expires_at": expires_at}
        for name, user_id in ((str(USER + 1), USER + 1), ("None", None))
    ]
