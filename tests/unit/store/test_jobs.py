"""A job's document: its embedded tasks and its expiry time."""

import dataclasses

import pytest

from indexing import errors
from indexing.domain import job_updates, model
from indexing.store import database as store_database
from indexing.store import jobs
from tests import clockwork, values

NOW = clockwork.START


async def test_unknown_fields_are_ignored_and_kept_when_documents_are_read(database: store_database.Database) -> None:
    """Two releases share the database, and neither removes the other's fields."""
    store = jobs.Jobs(database, retention=3600.0)
    job, _ = await store.create_or_join(values.job())
    await store.add_tasks(job, [values.task()])
    await database["jobs"].update_many({}, {"$set": {"brand_new": 1}})

    listed = dataclasses.replace(job, listed=True)
    assert await store.load(job.job_id) == (listed, [values.task()])
    owned = await store.begin_turn(job.job_id, 0, now=NOW, until=NOW + 40)
    assert owned is not None
    await store.save(owned[0], owned[0], owned[1])
    (row,) = await database["jobs"].find({}).to_list(None)
    assert row["brand_new"] == 1


async def test_a_job_is_one_document_when_it_has_many_tasks(database: store_database.Database) -> None:
    """Any user's job fits: 200 guilds with long names, each of which may fail."""
    store = jobs.Jobs(database, retention=3600.0)
    job, _ = await store.create_or_join(values.job())
    rows = [
        values.task(
            (1 << 63) - 1 - number,
            position=number,
            name="🎉" * 100,
            state=model.TaskState.FAILED,
            reason="GUILD_UNAVAILABLE",
            retry_at=NOW,
            channel_count=500,
            revision=job_updates.revision_of(1 << 20, number),
        )
        for number in range(200)
    ]

    await store.add_tasks(job, rows)

    (row,) = await database["jobs"].find({}).to_list(None)
    assert await store.list_tasks(job.job_id) == rows
    assert len(row["guilds"]) + sum(map(len, row["tasks"].values())) < 128 << 10


async def test_a_job_of_a_newer_format_is_left_to_newer_processes(database: store_database.Database) -> None:
    """Its tasks cannot be read; a store that is unavailable for a turn costs it none of its attempts."""
    store = jobs.Jobs(database, retention=3600.0)
    job, _ = await store.create_or_join(values.job())
    await store.add_tasks(job, [values.task()])
    (row,) = await database["jobs"].find({}).to_list(None)
    await database["jobs"].update_one({}, {"$set": {"schema": jobs.SCHEMA + 1, "guilds": b"newer"}})

    with pytest.raises(errors.StoreUnavailable):
        await store.load(job.job_id)
    with pytest.raises(errors.StoreUnavailable):
        await store.begin_turn(job.job_id, job.turn, now=NOW, until=NOW + 40)

    assert row["schema"] == jobs.SCHEMA
    found = await store.get(job.job_id)
    assert found is not None
    assert found.state is model.JobState.RUNNING


async def test_ended_jobs_expire_when_their_retention_is_over(database: store_database.Database) -> None:
    """Running jobs never expire. The time counts from the start, and must be a date for the index."""
    store = jobs.Jobs(database, retention=3600.0)
    job, _ = await store.create_or_join(values.job())
    await store.add_tasks(job, [values.task()])
    (running,) = await database["jobs"].find({}).to_list(None)

    await store.save(job, values.job(state=model.JobState.SUCCEEDED, finished_at=NOW + 500))

    (ended,) = await database["jobs"].find({}).to_list(None)
    assert running["expires_at"] is None
    assert ended["expires_at"].timestamp() == pytest.approx(NOW + 3600)
