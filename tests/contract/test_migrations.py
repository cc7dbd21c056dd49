"""A database of the release before moves from rows to documents: whole, resumably, by one process."""

import asyncio
import dataclasses
import itertools
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from indexer_service import migrate
from indexing import settings
from indexing.domain import job_updates, model, reasons
from indexing.store import database, migrations, schema
from indexing.store.rows import copying
from tests import values
from tests.contract import moving, old_form

NOW = moving.NOW


async def test_all_reads_as_before_when_it_was_migrated(old: database.Database) -> None:
    """Through stores that were open meanwhile, and through those of a new process."""
    open_meanwhile = moving.of_rows(old)
    before = await moving.snapshot(open_meanwhile)

    await moving.migrate(old)

    assert await moving.snapshot(moving.of_documents(old)) == before
    assert await moving.snapshot(open_meanwhile) == before
    assert (await old["meta"].find_one({"_id": schema.META}))["state"] == "documents"


async def test_nothing_is_copied_again_when_it_was_copied(old: database.Database) -> None:
    """A second pass over data that nobody changes writes nothing."""
    batches: list[migrations.Batch] = []

    await moving.migrate(old, on_batch=batches.append)

    first = {step: sum(b.copied for b in batches if b.step == step and not b.again) for step in ("guilds", "users")}
    assert first["guilds"] == old_form.GUILDS
    assert first["users"] > old_form.USERS / 2
    assert sum(batch.copied for batch in batches if batch.again) == 0
    assert max(batch.seen for batch in batches if batch.step == "guilds") == old_form.GUILDS


async def test_a_listing_that_brings_only_activity_is_one_small_write_when_the_guild_was_migrated(
    old: database.Database,
) -> None:
    """The fingerprint is that of the copied channels, whatever the release before made of its own."""
    await moving.migrate(old)
    store = moving.of_documents(old).guilds
    indexed = next(one for one in (await store.load(moving.GUILD_IDS)).values() if len(one.channels) > 2)
    before = await old["guilds"].find_one({"_id": indexed.guild.guild_id})
    rows = [dataclasses.replace(row, last_message_id=1 << 40) for row in indexed.channels]

    fence = await store.acquire_lease(indexed.guild.guild_id, now=NOW, until=NOW + 9, fetched_before=NOW)
    assert fence is not None
    schedule = dataclasses.replace(indexed.guild.schedule, interval=5.0)
    stored = await store.store_channels(
        indexed.guild.guild_id, model.Listing(fence, rows, NOW, schedule, indexed.guild)
    )

    after = await old["guilds"].find_one({"_id": indexed.guild.guild_id})
    assert stored
    assert after["channels"] == before["channels"]
    assert after["activity"] != before["activity"]
    assert list((await store.load([indexed.guild.guild_id]))[indexed.guild.guild_id].channels) == rows


class Killed(Exception):
    """The process is killed."""


class Mortal:
    """A database whose client is killed before its n-th command."""

    def __init__(self, db: database.Database, commands: int) -> None:
        self._db = db
        self.left = commands

    def __getitem__(self, name: str) -> "_MortalCollection":
        return _MortalCollection(self._db[name], self)

    def tick(self) -> None:
        """Count a command."""
        self.left -= 1
        if self.left < 0:
            raise Killed


class _MortalCollection:
    def __init__(self, real: Any, owner: Mortal) -> None:  # noqa: ANN401 -- a collection or a cursor
        self._real = real
        self._owner = owner

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- as above
        real = getattr(self._real, name)
        if name in {"find", "sort", "limit"}:
            return lambda *given: _MortalCollection(real(*given), self._owner)

        async def call(*given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as above
            self._owner.tick()
            return await real(*given, **named)

        return call if callable(real) else real


@pytest.mark.parametrize("seed", range(4))
async def test_it_goes_on_when_it_was_killed_at_any_moment(old: database.Database, seed: int) -> None:
    """Again and again, between any two commands; each time the next one takes over when the lease is over."""
    before = await moving.snapshot(moving.of_rows(old))
    rng, clock, kills = random.Random(seed), itertools.count(NOW, 2 * migrations.LEASE), 0
    while True:
        try:
            await moving.migrate(Mortal(old, rng.randrange(1, 45)), clock=clock.__next__)
        except Killed:
            kills += 1
            assert kills < 200
        else:
            break

    assert kills > 1
    assert await moving.snapshot(moving.of_documents(old)) == before


async def test_the_first_pass_goes_on_where_it_was_when_it_was_killed(old: database.Database) -> None:
    """What was copied is not looked at again, up to the second pass."""
    seen: list[migrations.Batch] = []

    def note(batch: migrations.Batch) -> None:
        seen.append(batch)
        if len(seen) == 2:
            raise Killed

    with pytest.raises(Killed):
        await moving.migrate(old, on_batch=note)
    await moving.migrate(old, on_batch=seen.append, clock=lambda: NOW + 2 * migrations.LEASE)

    first_pass = [batch for batch in seen if batch.step == "guilds" and not batch.again]
    assert sum(batch.copied for batch in first_pass) == old_form.GUILDS
    assert len(first_pass) == 3


async def test_only_one_migrates_when_two_begin(old: database.Database) -> None:
    """The other one is refused, until the lease is over."""
    with pytest.raises(Killed):
        await moving.migrate(Mortal(old, 9))

    with pytest.raises(migrations.Held):
        await moving.migrate(old)
    await moving.migrate(old, clock=lambda: NOW + migrations.LEASE)


async def test_a_process_that_lost_the_lease_stops_when_it_wakes_up(old: database.Database) -> None:
    """It was suspended for longer than its lease."""

    class Suspended(migrations.Migrator):
        async def _walk(self, step: copying.Walk, number: int | None, after: object) -> None:
            if number == 1:
                await old["meta"].update_one({"_id": migrations.POSITION}, {"$set": {"owner": "another"}})
            await super()._walk(step, number, after)

    with pytest.raises(migrations.Held):
        await Suspended(old, lambda: NOW, settle=0.0).migrate()

    assert await (await schema.open_schema(old)).state() is schema.State.ROWS


async def test_what_the_release_before_changes_meanwhile_is_copied_by_the_second_pass(
    old: database.Database,
) -> None:
    """A guild by its fence, a user by their memberships, a job by its tasks; a user erased by it leaves nothing."""
    changed = asyncio.Event()

    async def change() -> None:
        gone = {"gone_at": NOW - 1, "gone_why": reasons.HIDDEN_OR_DELETED}
        await old["channels"].update_many({"guild_id": {"$lt": moving.G + 150}}, {"$set": gone})
        await old["guilds"].update_many({"_id": {"$lt": moving.G + 150}}, {"$inc": {"fence": 2}})
        roles = {"role_ids": [77], "roles_at": NOW - 1}
        await old["memberships"].update_many({"user_id": {"$lt": moving.U + 60}, "left_at": None}, {"$set": roles})
        await old["units"].update_many({}, {"$set": {"revision": job_updates.revision_of(9, 1), "channel_count": 3}})
        await old["users"].delete_one({"_id": moving.U + 100})
        await old["memberships"].delete_many({"user_id": moving.U + 100})

    class Waiting(migrations.Migrator):
        async def _walk(self, step: copying.Walk, number: int | None, after: object) -> None:
            if number is None and not changed.is_set():
                changed.set()
                await change()
            await super()._walk(step, number, after)

    await old["rosters"].insert_one({"_id": moving.U + 100, "guild_ids": [moving.G]})
    await Waiting(old, lambda: NOW, settle=0.0).migrate()

    after = moving.of_documents(old)
    rows = moving.of_rows(old, schema.State.ROWS, attentive=False)
    assert await after.users.load(moving.U + 100) is None
    assert await old["rosters"].find_one({"_id": moving.U + 100}) is None
    for guild_id, indexed in (await rows.guilds.load(moving.GUILD_IDS)).items():
        found = (await after.guilds.load([guild_id]))[guild_id]
        assert (found.channels, found.gone) == (indexed.channels, indexed.gone)
    for user_id in range(moving.U, moving.U + 60):
        expected, user = await rows.users.load(user_id), await after.users.load(user_id)
        assert expected is not None
        assert user is not None
        assert user.memberships == expected.memberships
        assert {member.role_ids for member in user.memberships.values()} <= {(77,)}
    for job_id in moving.JOB_IDS:
        assert await after.jobs.load(job_id) == await rows.jobs.load(job_id)


async def test_nothing_counts_as_migrated_when_the_release_before_still_fetches(old: database.Database) -> None:
    """Its next listing would be in the rows alone; a listing of this release is no reason to stop."""
    fetched = {"fetched_at": NOW + 5, "fence": 50}

    class Beside(migrations.Migrator):
        async def _walk(self, step: copying.Walk, number: int | None, after: object) -> None:
            if number == 2:
                await moving.listed(
                    moving.of_rows(old).guilds, moving.G + 1, [values.channel(1, moving.G + 1)], at=NOW + 5
                )
                await old["guilds"].update_one({"_id": moving.G}, {"$set": fetched})
            await super()._walk(step, number, after)

    with pytest.raises(copying.OldRelease, match=str(moving.G)):
        await Beside(old, lambda: NOW, settle=0.0).migrate()

    assert await (await schema.open_schema(old)).state() is schema.State.ROWS
    await moving.migrate(old, clock=lambda: NOW + 2 * migrations.LEASE)
    assert await (await schema.open_schema(old)).state() is schema.State.DOCUMENTS


async def test_the_rows_are_dropped_when_every_process_has_noticed(old: database.Database) -> None:
    """Not before: neither while they count, nor right after the end of the migration."""
    before = await moving.snapshot(moving.of_rows(old))

    with pytest.raises(migrations.NotMigrated):
        await migrations.drop_rows(old, lambda: NOW + 9_999)
    await moving.migrate(old)
    with pytest.raises(migrations.NotMigrated):
        await migrations.drop_rows(old, lambda: NOW + migrations.SETTLE - 1)
    assert await old["channels"].find_one({}) is not None
    for _ in range(2):
        await migrations.drop_rows(old, lambda: NOW + migrations.SETTLE)

    assert not {"channels", "memberships", "units"} & set(await old.list_collection_names())
    process = moving.of_rows(old)
    assert await moving.snapshot(process) == before
    await process.user_data.erase_jobs(moving.JOB_IDS)
    await process.guilds.purge(NOW + 9_999)
    assert not {"channels", "memberships", "units"} & set(await old.list_collection_names())


async def test_nothing_of_a_user_is_left_when_they_are_erased_while_rows_are_kept(old: database.Database) -> None:
    """After the migration, too: rows that do not count any more are still of somebody."""
    await moving.migrate(old)
    row = await old["memberships"].find_one({"left_at": None})
    user_id = row["user_id"]
    job_ids = [job["_id"] for job in await old["jobs"].find({"user_id": user_id}).to_list(None)]
    erasing = moving.of_rows(old).user_data
    counts = await erasing.count(user_id)

    await erasing.erase_user(user_id)
    await erasing.erase_jobs(await erasing.list_jobs(user_id))
    await erasing.erase_guilds(await erasing.list_guilds(user_id), but=user_id)
    await erasing.erase_roster(user_id)

    assert counts["memberships"] >= 1
    assert await erasing.count(user_id) == dict.fromkeys(counts, 0)
    assert await old["units"].count_documents({"job_id": {"$in": job_ids}}) == 0
    assert await old["memberships"].find_one({"user_id": user_id}) is None
    tombstone = await old["rosters"].find_one({"_id": user_id})
    assert tombstone is not None
    assert tombstone.keys() <= {"_id", "erased", "erased_at"}, "nothing but the moment of the erasure, for a day"


@pytest.mark.parametrize(
    ("initial", "holds", "expected"),
    [
        ("auto", {}, "documents"),
        ("documents", {}, "documents"),
        ("rows", {}, "rows"),
        ("auto", {"memberships": {"_id": "1:2"}}, "rows"),
        ("documents", {"channels": {"_id": 1}}, "rows"),
        ("auto", {"users": {"_id": 1}}, "rows"),
        ("rows", {"meta": {"_id": "schema", "state": "documents"}}, "documents"),
        ("auto", {"meta": {"_id": "schema", "state": "rows"}}, "rows"),
        ("auto", {"guilds": {"_id": 1, "schema": 2}}, "documents"),
    ],
)
async def test_the_form_is_that_of_the_data_when_there_is_any(
    empty: database.Database, initial: str, holds: dict[str, dict[str, Any]], expected: str
) -> None:
    """The setting decides for an empty database; the first process to boot decides for all."""
    for name, row in holds.items():
        await empty[name].insert_one(row)

    opened = await asyncio.gather(*(schema.open_schema(empty, initial) for _ in range(4)))

    assert {(await each.state()).value for each in opened} == {expected}
    assert (await empty["meta"].find_one({"_id": "schema"}))["state"] == expected


async def indexes(db: database.Database, name: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the options of a collection's indexes by their keys."""
    found = await db[name].index_information()
    return {
        tuple(key for key, _ in info["key"]): {option: info[option] for option in migrations.OPTIONS if option in info}
        for info in found.values()
    }


async def test_indexes_that_differ_are_changed_when_a_process_boots(
    empty: database.Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """A time to live in place, others by a new one before the old one goes; it is logged, and done once."""
    await empty["jobs"].create_index([("expires_at", 1)], expireAfterSeconds=77)
    await empty["jobs"].create_index([("user_id", 1)], name="one_active")
    await empty["guilds"].create_index([("next_refresh_at", 1)])
    await empty["requests"].create_index([("expires_at", 1)])
    await empty["rosters"].create_index([("guild_ids", 1)], unique=True)

    await migrations.make_indexes(empty)

    assert (await indexes(empty, "jobs"))["expires_at",] == {"expireAfterSeconds": 0}
    one_active = {"unique": True, "partialFilterExpression": {"active": True}}
    assert (await indexes(empty, "jobs"))["user_id",] == one_active
    assert (await indexes(empty, "guilds"))["next_refresh_at",]
    assert (await indexes(empty, "requests"))["expires_at",] == {"expireAfterSeconds": 0}
    assert (await indexes(empty, "rosters"))["guild_ids",] == {}
    assert len(await empty["guilds"].index_information()) == len(await indexes(empty, "guilds"))
    logged = [line for line in capsys.readouterr().out.splitlines() if "index_changed" in line]
    assert len(logged) == 9
    before = [await empty[name].index_information() for name in ("jobs", "guilds", "requests", "rosters")]
    await asyncio.gather(*(migrations.make_indexes(empty) for _ in range(3)))
    after = [await empty[name].index_information() for name in ("jobs", "guilds", "requests", "rosters")]
    assert before == after
    assert "index_changed" not in capsys.readouterr().out


async def test_the_indexes_of_the_release_before_stay_when_it_runs_beside(empty: database.Database) -> None:
    """Two releases that changed them back and forth would build them at each boot; the migration changes them."""
    wanted = {"memberships": ["user_id", "guild_id", "left_at"], "units": ["job_id"], "channels": ["guild_id"]}
    for name, keys in {**wanted, "guilds": ["next_refresh_at", "looked_at"]}.items():
        for key in keys:
            partial = {"name": "left", "partialFilterExpression": {"left_at": {"$gt": 0}}} if key == "left_at" else {}
            await empty[name].create_index([(key, 1)], **partial)
    before = {name: set(await empty[name].index_information()) for name in (*wanted, "guilds")}
    await schema.open_schema(empty, "rows")

    await migrations.make_indexes(empty, schema.State.ROWS)

    after = {name: set(await empty[name].index_information()) for name in before}
    assert all(before[name] <= after[name] for name in before)
    assert (await indexes(empty, "guilds"))["next_refresh_at",] == {}
    assert ("guild_ids",) in await indexes(empty, "rosters")
    await moving.migrate(empty)
    due = {"partialFilterExpression": {"next_refresh_at": {"$gt": 0}}}
    assert (await indexes(empty, "guilds"))["next_refresh_at",] == due


def command(url: str, name: str, *words: str) -> subprocess.Popen[bytes]:
    """Start `python -m indexer_service` with some words."""
    variables = {**os.environ, "MONGODB_URL": url, "MONGODB_DATABASE": name}  # noqa: TID251 -- for another process
    return subprocess.Popen(
        [sys.executable, "-m", "indexer_service", *words],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_the_command_goes_on_when_it_was_killed(old: database.Database, mongodb_url: str) -> None:
    """By SIGKILL, after its first batch; each batch is a line of the log. The next one goes on to the end."""
    refused = command(mongodb_url, old.name, "migrate", "--drop-rows")
    _, problem = await asyncio.to_thread(refused.communicate, timeout=60)
    before = await moving.snapshot(moving.of_rows(old))
    killed = command(mongodb_url, old.name, "migrate")
    assert killed.stderr is not None
    assert killed.stdout is not None
    first = await asyncio.to_thread(_first_batch, killed)
    killed.kill()
    await asyncio.to_thread(killed.communicate, timeout=60)
    assert (await schema.open_schema(old))._state is schema.State.ROWS

    # The lease of the killed one is over.
    await old["meta"].update_one({"_id": migrations.POSITION}, {"$set": {"until": 0.0}})
    config = settings.MigrationConfig(
        settings.MongoSettings(url=mongodb_url, database=old.name), settings.LogSettings()
    )
    code = await migrate.migrate(config, settle=0.0)

    assert refused.returncode == 1
    assert problem.startswith(b"nothing dropped")
    assert b'"step": "guilds"' in first
    assert code == 0
    assert await moving.snapshot(moving.of_documents(old)) == before
    assert await migrate.drop_rows(config, settle=0.0) == 0


def _first_batch(process: subprocess.Popen[bytes]) -> bytes:
    """Return the first line about a batch."""
    assert process.stderr is not None
    assert process.stdout is not None
    for line in process.stderr:
        if b"migration_batch" in line:
            return line
    raise AssertionError(process.stdout.read())


@pytest.mark.parametrize("problem", ["held", "old"])
async def test_the_command_says_what_to_do_when_it_cannot_go_on(
    old: database.Database,
    mongodb_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    problem: str,
) -> None:
    """Another migration runs, or a process of the release before."""
    config = settings.MigrationConfig(
        settings.MongoSettings(url=mongodb_url, database=old.name), settings.LogSettings()
    )
    monkeypatch.setattr(migrate, "CLOCK", lambda: NOW)
    monkeypatch.setattr(migrations, "LEASE", -4.0)
    if problem == "held":
        await old["meta"].insert_one({"_id": migrations.POSITION, "owner": "another", "until": NOW + 9})
    else:
        monkeypatch.setattr(copying.GuildCopier, "old_since", NOW - 9_000)

    assert await migrate.migrate(config) == 1

    said = capsys.readouterr().err
    assert ("another process migrates" if problem == "held" else "of the release before") in said
