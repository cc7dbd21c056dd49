"""A database moves from rows to documents while it is read and written; nothing is lost, and nothing hidden is shown."""

import asyncio
import dataclasses
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import pytest

from indexing import errors, settings
from indexing.domain import freshness, model, ports, reasons
from indexing.store import credentials, database, erasure, guilds, jobs, migrations, schema, users
from indexing.store.rows import channels, copying, memberships, units, user_data
from tests import clockwork, values
from tests.contract import old_form

NOW = clockwork.START
VAULT = credentials.Vault((b"k" * 32,))
GUILD_IDS = range(old_form.FIRST_GUILD, old_form.FIRST_GUILD + old_form.GUILDS)
USER_IDS = range(old_form.FIRST_USER, old_form.FIRST_USER + old_form.USERS)
JOB_IDS = [f"{number:032x}" for number in range(old_form.JOBS)]
G, U, JOB = old_form.FIRST_GUILD, old_form.FIRST_USER, "b" * 32


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one process."""

    users: ports.Users
    guilds: ports.Guilds
    jobs: ports.Jobs
    user_data: ports.UserData


def of_documents(db: database.Database) -> Stores:
    """Return the stores of a process that began with documents."""
    return Stores(users.Users(db, VAULT), guilds.Guilds(db), jobs.Jobs(db, retention=3600.0), erasure.MongoUserData(db))


def of_rows(db: database.Database, state: schema.State = schema.State.ROWS, *, attentive: bool = True) -> Stores:
    """Return the stores of a process that began with rows; an attentive one looks at the state each time."""
    form = schema.Schema(db, state, itertools.count(0.0, 10.0).__next__ if attentive else time.monotonic)
    return Stores(
        memberships.RowUsers(db, VAULT, form, lambda: NOW),
        channels.RowGuilds(db, form),
        units.RowJobs(db, form, retention=3600.0),
        user_data.RowUserData(db, form),
    )


@pytest.fixture
async def empty(mongodb_url: str) -> AsyncIterator[database.Database]:
    """An empty database."""
    config = settings.MongoSettings(url=mongodb_url, database=f"test-{uuid.uuid4().hex}", timeout=60.0)
    async with database.open_database(config) as opened:
        yield opened
        await opened.client.drop_database(config.database)


@pytest.fixture
async def old(empty: database.Database) -> database.Database:
    """A database of the release before, after the first boot of this one."""
    await old_form.fill(empty)
    form = await schema.open_schema(empty)
    await migrations.make_indexes(empty, await form.state())
    return empty


async def migrate(db: database.Database, **options: Any) -> None:  # noqa: ANN401 -- any argument
    """Migrate without waiting."""
    await migrations.Migrator(db, **{"clock": lambda: NOW, "settle": 0.0, **options}).migrate()


async def snapshot(stores: Stores) -> list[object]:
    """Return all that is stored, but for what only one form has: versions and fingerprints."""
    indexed = await stores.guilds.load(GUILD_IDS)
    found: list[object] = []
    for guild_id in GUILD_IDS:
        one = indexed[guild_id]
        schedule = dataclasses.replace(one.guild.schedule, fingerprint="")
        found.append(dataclasses.replace(one, version=0, guild=dataclasses.replace(one.guild, schedule=schedule)))
    for user_id in USER_IDS:
        user = await stores.users.load(user_id)
        assert user is not None
        found.append(dataclasses.replace(user, version=0))
        found.append(set(await stores.user_data.list_guilds(user_id)))
    found += [await stores.jobs.load(job_id) for job_id in JOB_IDS]
    found += [await stores.jobs.list_for_user(user_id, before=NOW + 1, limit=5) for user_id in USER_IDS]
    return found


async def test_all_reads_as_before_when_it_was_migrated(old: database.Database) -> None:
    """Through stores that were open meanwhile, and through those of a new process."""
    open_meanwhile = of_rows(old)
    before = await snapshot(open_meanwhile)

    await migrate(old)

    assert await snapshot(of_documents(old)) == before
    assert await snapshot(open_meanwhile) == before
    assert (await old["meta"].find_one({"_id": schema.META}))["state"] == "documents"


async def test_nothing_is_copied_again_when_it_was_copied(old: database.Database) -> None:
    """A second pass over data that nobody changes writes nothing."""
    batches: list[migrations.Batch] = []

    await migrate(old, on_batch=batches.append)

    first = {step: sum(b.copied for b in batches if b.step == step and not b.again) for step in ("guilds", "users")}
    assert first["guilds"] == old_form.GUILDS
    assert first["users"] > old_form.USERS / 2
    assert sum(batch.copied for batch in batches if batch.again) == 0
    assert max(batch.seen for batch in batches if batch.step == "guilds") == old_form.GUILDS


async def test_a_listing_that_brings_only_activity_is_one_small_write_when_the_guild_was_migrated(
    old: database.Database,
) -> None:
    """The fingerprint is that of the copied channels, whatever the release before made of its own."""
    await migrate(old)
    store = of_documents(old).guilds
    indexed = next(one for one in (await store.load(GUILD_IDS)).values() if len(one.channels) > 2)
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
    before = await snapshot(of_rows(old))
    rng, clock, kills = random.Random(seed), itertools.count(NOW, 2 * migrations.LEASE), 0
    while True:
        try:
            await migrate(Mortal(old, rng.randrange(1, 45)), clock=clock.__next__)
        except Killed:
            kills += 1
            assert kills < 200
        else:
            break

    assert kills > 1
    assert await snapshot(of_documents(old)) == before


async def test_the_first_pass_goes_on_where_it_was_when_it_was_killed(old: database.Database) -> None:
    """What was copied is not looked at again, up to the second pass."""
    seen: list[migrations.Batch] = []

    def note(batch: migrations.Batch) -> None:
        seen.append(batch)
        if len(seen) == 2:
            raise Killed

    with pytest.raises(Killed):
        await migrate(old, on_batch=note)
    await migrate(old, on_batch=seen.append, clock=lambda: NOW + 2 * migrations.LEASE)

    first_pass = [batch for batch in seen if batch.step == "guilds" and not batch.again]
    assert sum(batch.copied for batch in first_pass) == old_form.GUILDS
    assert len(first_pass) == 3


async def test_only_one_migrates_when_two_begin(old: database.Database) -> None:
    """The other one is refused, until the lease is over."""
    with pytest.raises(Killed):
        await migrate(Mortal(old, 9))

    with pytest.raises(migrations.Held):
        await migrate(old)
    await migrate(old, clock=lambda: NOW + migrations.LEASE)


async def test_a_process_that_lost_the_lease_stops_when_it_wakes_up(old: database.Database) -> None:
    """It was suspended for longer than its lease."""

    class Suspended(migrations.Migrator):
        async def _walk(self, step: copying.Walk, number: int | None, after: Any) -> None:
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
        await old["channels"].update_many({"guild_id": {"$lt": G + 150}}, {"$set": gone})
        await old["guilds"].update_many({"_id": {"$lt": G + 150}}, {"$inc": {"fence": 2}})
        roles = {"role_ids": [77], "roles_at": NOW - 1}
        await old["memberships"].update_many({"user_id": {"$lt": U + 60}, "left_at": None}, {"$set": roles})
        await old["units"].update_many({}, {"$set": {"revision": model.revision_of(9, 1), "channel_count": 3}})
        await old["users"].delete_one({"_id": U + 100})
        await old["memberships"].delete_many({"user_id": U + 100})

    class Waiting(migrations.Migrator):
        async def _walk(self, step: copying.Walk, number: int | None, after: Any) -> None:
            if number is None and not changed.is_set():
                changed.set()
                await change()
            await super()._walk(step, number, after)

    await old["rosters"].insert_one({"_id": U + 100, "guild_ids": [G]})
    await Waiting(old, lambda: NOW, settle=0.0).migrate()

    after = of_documents(old)
    rows = of_rows(old, schema.State.ROWS, attentive=False)
    assert await after.users.load(U + 100) is None
    assert await old["rosters"].find_one({"_id": U + 100}) is None
    for guild_id, indexed in (await rows.guilds.load(GUILD_IDS)).items():
        found = (await after.guilds.load([guild_id]))[guild_id]
        assert (found.channels, found.gone) == (indexed.channels, indexed.gone)
    for user_id in range(U, U + 60):
        expected, user = await rows.users.load(user_id), await after.users.load(user_id)
        assert expected is not None
        assert user is not None
        assert user.memberships == expected.memberships
        assert {member.role_ids for member in user.memberships.values()} <= {(77,)}
    for job_id in JOB_IDS:
        assert await after.jobs.load(job_id) == await rows.jobs.load(job_id)


async def test_nothing_counts_as_migrated_when_the_release_before_still_fetches(old: database.Database) -> None:
    """Its next listing would be in the rows alone; a listing of this release is no reason to stop."""
    fetched = {"fetched_at": NOW + 5, "fence": 50}

    class Beside(migrations.Migrator):
        async def _walk(self, step: copying.Walk, number: int | None, after: Any) -> None:
            if number == 2:
                await listed(of_rows(old).guilds, G + 1, [values.channel(1, G + 1)], at=NOW + 5)
                await old["guilds"].update_one({"_id": G}, {"$set": fetched})
            await super()._walk(step, number, after)

    with pytest.raises(copying.OldRelease, match=str(G)):
        await Beside(old, lambda: NOW, settle=0.0).migrate()

    assert await (await schema.open_schema(old)).state() is schema.State.ROWS
    await migrate(old, clock=lambda: NOW + 2 * migrations.LEASE)
    assert await (await schema.open_schema(old)).state() is schema.State.DOCUMENTS


async def listed(store: ports.Guilds, guild_id: int, rows: list[model.Channel], *, at: float) -> bool:
    """Fetch a guild as a worker does; False when it was left to another one."""
    guild = (await store.get([guild_id]))[guild_id]
    fence = await store.acquire_lease(guild_id, now=at, until=at + 25, fetched_before=at)
    if fence is None:
        return False
    schedule = model.Schedule(fingerprint=freshness.fingerprint(rows))
    return await store.store_channels(guild_id, model.Listing(fence, rows, at, schedule, guild))


@pytest.mark.parametrize("write", ["guild", "leased", "list", "roles", "left", "task"])
async def test_a_write_is_not_undone_when_it_comes_in_the_midst_of_a_copy(
    old: database.Database, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the copy's reading of the rows and its write of the document, which then changes nothing."""
    process, documents = of_rows(old), of_documents(old)
    copiers: list[copying.Copier] = [copying.GuildCopier(old), copying.UserCopier(old), copying.JobCopier(old)]
    await old["jobs"].update_many({}, {"$set": {"active": True, "state": "RUNNING"}})
    for copier in copiers:
        await copy_all(copier)
    user_id = next(row["user_id"] for row in await old["memberships"].find({"left_at": None}).to_list(None))
    user, job_id = await process.users.load(user_id), (await old["units"].find_one({}))["job_id"]
    loaded = await process.jobs.load(job_id)
    assert user is not None
    assert loaded is not None
    member, (job, (first, second, *_)) = next(iter(user.memberships.values())), loaded
    newer = dataclasses.replace(first, revision=1 << 40)
    # By the release before, so that there is something to be copied.
    guild_id = (await old["channels"].find_one({"gone_at": None}))["guild_id"]
    await old["guilds"].update_one({"_id": guild_id}, {"$inc": {"fence": 1}})
    await old["memberships"].update_many({"user_id": user_id}, {"$set": {"looked_at": NOW + 9}})
    await old["units"].update_one({"_id": f"{job_id}:{second.guild_id}"}, {"$set": {"revision": 1 << 39}})

    shown_rows = [values.channel(1, guild_id)]
    guild = (await process.guilds.get([guild_id]))[guild_id]
    fence = None
    if write == "leased":
        fence = await process.guilds.acquire_lease(guild_id, now=NOW, until=NOW + 25, fetched_before=NOW)

    async def do() -> bool:
        if fence is not None:
            listing = model.Listing(fence, shown_rows, NOW + 1, guild.schedule, guild)
            return await process.guilds.store_channels(guild_id, listing)
        if write == "guild":
            return await listed(process.guilds, guild_id, shown_rows, at=NOW + 1)
        if write == "list":
            return await process.users.replace_guild_list(user, [values.user_guild(G, permissions=5)], NOW)
        if write == "roles":
            return await process.users.store_roles(member, [123], NOW)
        if write == "left":
            return await process.users.mark_left(member)
        return await process.jobs.write_tasks(job, [newer])

    monkeypatch.setattr(copying, "TRIES", 1)
    for copier in copiers:
        with pytest.raises(errors.StoreUnavailable):
            await copy_all(copier, do if copier.name == KINDS[write] else None)

    now, tasks = await documents.users.load(user_id), await documents.jobs.list_tasks(job_id)
    assert now is not None
    listing_shown = list((await documents.guilds.load([guild_id]))[guild_id].channels) == shown_rows
    shown = {
        "guild": listing_shown,
        "leased": listing_shown,
        "list": {key: one.permissions for key, one in now.memberships.items()} == {G: 5},
        "roles": member.guild_id in now.memberships and now.memberships[member.guild_id].role_ids == (123,),
        "left": member.guild_id not in now.memberships,
        "task": newer in tasks,
    }
    assert shown[write]
    monkeypatch.undo()
    for copier in copiers:
        await copy_all(copier)
    assert await snapshot(documents) == await snapshot(process)


async def test_the_newer_task_stays_when_a_turn_was_lost_between_document_and_row(old: database.Database) -> None:
    """The document's part is written first, and a copy does not take it back."""
    documents = of_documents(old)
    await old["jobs"].update_many({}, {"$set": {"active": True, "state": "RUNNING"}})
    await copy_all(copying.JobCopier(old))
    (job_id,) = {row["job_id"] for row in await old["units"].find({}).limit(1).to_list(1)}
    loaded = await documents.jobs.load(job_id)
    assert loaded is not None
    job, (first, second, *_) = loaded
    newer = dataclasses.replace(first, revision=1 << 40)
    assert await documents.jobs.write_tasks(job, [newer])
    await old["units"].update_one({"_id": f"{job_id}:{second.guild_id}"}, {"$set": {"revision": 1 << 39}})

    await copy_all(copying.JobCopier(old))

    tasks = await documents.jobs.list_tasks(job_id)
    assert tasks[:2] == [newer, dataclasses.replace(second, revision=1 << 39)]


KINDS = {"guild": "guilds", "leased": "guilds", "list": "users", "roles": "users", "left": "users", "task": "jobs"}
"""Collections that the writes change."""


async def copy_all(copier: copying.Copier, do: Callable[[], Awaitable[bool]] | None = None) -> None:
    """Copy everything, and do something between the first reading and the first write."""
    real, done = copier._changes, []

    async def changes(ids: Collection[Any]) -> dict[Any, Any]:
        found = await real(ids)
        if do is not None and not done:
            done.append(await do())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copier, "_changes", changes)
        patch.setattr(copier, "batch", 10_000)
        await copier.copy(await copier.next_ids(None))
    assert all(done)


class Fleet:
    """
    Processes of this release that write while a database is migrated, and one that reads.

    Each value that is written is greater than the one before, so that a reader can tell whether it is shown something
    older than what was stored when it asked.
    """

    def __init__(self, processes: list[Stores]) -> None:
        self.processes = processes
        self.stored: dict[tuple[str, int], int] = {}
        self.written = 0
        self.ended = asyncio.Event()
        self._moment = itertools.count(NOW + 1_000.0)

    async def write_guild(self, guild_id: int) -> None:
        """Fetch a guild again and again, each time by another process; its channel's name is the value."""
        for number in itertools.count(1):
            if self.ended.is_set():
                return
            store = self.processes[number % 2].guilds
            rows = [values.channel(guild_id, guild_id, name=str(number), overwrites=(values.denied(number),))]
            if await listed(store, guild_id, rows, at=next(self._moment)):
                self.stored["guild", guild_id] = number
                self.written += 1

    async def write_user(self, user_id: int) -> None:
        """List a user's guilds, then ask for roles: the rights of one guild and the roles of the other are values."""
        for number in itertools.count(1):
            if self.ended.is_set():
                return
            store = self.processes[number % 2].users
            user = await store.load(user_id)
            assert user is not None
            rows = [values.user_guild(G, permissions=number), values.user_guild(G + 1)]
            assert await store.replace_guild_list(user, rows, next(self._moment))
            self.stored["rights", user_id] = number
            user = await store.load(user_id)
            assert user is not None
            assert await store.store_roles(user.memberships[G + 1], [number], next(self._moment))
            self.stored["roles", user_id] = number
            self.written += 1

    async def write_job(self, number: int) -> None:
        """Run turn after turn of a job; the revision of its task is the value."""
        job_id = f"{number:x}" * 32
        store = self.processes[0].jobs
        job, _ = await store.create_or_join(values.job(job_id, user_id=70 + number))
        await store.add_tasks(job, [values.task(G, revision=0), values.task(G + 1, position=1, revision=0)])
        for turn in itertools.count(0):
            if self.ended.is_set():
                return
            store = self.processes[turn % 2].jobs
            owned = await store.begin_turn(job_id, turn, now=NOW, until=NOW + 40)
            assert owned is not None
            assert len(owned[1]) == 2
            revision = model.revision_of(turn + 1, 1)
            assert await store.write_tasks(owned[0], [values.task(G, revision=revision)])
            assert await store.save(owned[0], [values.task(G + 1, position=1, revision=revision + 1)])
            self.stored["job", number] = revision
            self.written += 1

    async def read(self, guild_ids: list[int], user_ids: list[int], numbers: list[int]) -> int:
        """Read until the end; returns how often."""
        store, reads = self.processes[2], 0
        while not self.ended.is_set():
            await self.check(store, guild_ids, user_ids, numbers)
            reads += 1
        return reads

    async def check(self, store: Stores, guild_ids: list[int], user_ids: list[int], numbers: list[int]) -> None:
        """Read everything once; nothing is older than what was stored before."""
        least = dict(self.stored)
        for guild_id, indexed in (await store.guilds.load(guild_ids)).items():
            if ("guild", guild_id) in least:
                (channel,) = indexed.channels
                assert int(channel.name) >= least["guild", guild_id]
        for user_id in user_ids:
            user = await store.users.load(user_id)
            assert user is not None
            if ("roles", user_id) in least:
                assert user.memberships[G].permissions >= least["rights", user_id]
                roles = user.memberships[G + 1].role_ids
                assert roles is not None
                assert roles[0] >= least["roles", user_id]
        for number in numbers:
            found = await store.jobs.load(f"{number:x}" * 32)
            if ("job", number) in least:
                assert found is not None
                assert all(task.revision >= least["job", number] for task in found[1])
                assert len(found[1]) == 2


async def test_nothing_older_is_shown_when_a_fleet_runs_during_the_migration(old: database.Database) -> None:
    """Three processes, each of which notices the end by itself; a write of any is seen by all."""
    processes = []
    for _ in range(3):
        # Each looks at the state at another moment.
        processes.append(of_rows(old, attentive=False))
        await asyncio.sleep(schema.NOTICE / 3)
    fleet = Fleet(processes)
    guild_ids, user_ids, numbers = [G + 200, G + 201, G + 202], [U + 1, U + 2], [10, 11]
    work = [
        *(fleet.write_guild(guild_id) for guild_id in guild_ids),
        *(fleet.write_user(user_id) for user_id in user_ids),
        *(fleet.write_job(number) for number in numbers),
        fleet.read(guild_ids, user_ids, numbers),
    ]

    async def go_on() -> None:
        try:
            await asyncio.sleep(0.3)
            await migrate(old, settle=schema.NOTICE + 0.5)
            before = fleet.written
            await asyncio.sleep(0.5)
            assert fleet.written > before
        finally:
            fleet.ended.set()

    async with asyncio.TaskGroup() as group:
        for each in (*work, go_on()):
            group.create_task(each)

    await fleet.check(of_documents(old), guild_ids, user_ids, numbers)
    assert fleet.written > 50
