"""A database moves to documents while it is read and written: no write is lost, no older state is shown."""

import asyncio
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest

from indexing import errors
from indexing.domain import job_updates, model
from indexing.store import database, schema
from indexing.store.rows import copying
from tests import values
from tests.contract import moving

NOW = moving.NOW


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """
    A process of rows, and what it knows.

    Attributes:
        fence: Of a lease that it holds for the guild.
    """

    process: moving.Stores
    guild: model.Guild
    fence: int | None
    user: model.User
    member: model.Membership
    job: model.Job
    task: model.GuildTask

    @property
    def rows(self) -> list[model.Channel]:
        """A listing unlike the stored one."""
        return [values.channel(1, self.guild.guild_id)]


async def store_listing(scene: Scene) -> bool:
    """Fetch the guild."""
    guild_id = scene.guild.guild_id
    if scene.fence is None:
        return await moving.listed(scene.process.guilds, guild_id, scene.rows, at=NOW + 1)
    listing = model.Listing(scene.fence, scene.rows, NOW + 1, scene.guild.schedule, scene.guild)
    return await scene.process.guilds.store_channels(guild_id, listing)


async def shows_listing(documents: moving.Stores, scene: Scene) -> bool:
    """Return whether the guild is as fetched."""
    return list((await documents.guilds.load([scene.guild.guild_id]))[scene.guild.guild_id].channels) == scene.rows


async def store_list(scene: Scene) -> bool:
    """List the user's guilds: one, with other rights."""
    return await scene.process.users.replace_guild_list(scene.user, [values.user_guild(moving.G, permissions=5)], NOW)


async def shows_list(documents: moving.Stores, scene: Scene) -> bool:
    """Return whether the user is in that guild alone."""
    user = await documents.users.load(scene.user.user_id)
    return user is not None and {key: one.permissions for key, one in user.memberships.items()} == {moving.G: 5}


async def store_roles(scene: Scene) -> bool:
    """Ask for a member's roles."""
    return await scene.process.users.store_roles(scene.member, [123], NOW)


async def shows_roles(documents: moving.Stores, scene: Scene) -> bool:
    """Return whether the member has them."""
    user = await documents.users.load(scene.user.user_id)
    return user is not None and user.memberships[scene.member.guild_id].role_ids == (123,)


async def mark_left(scene: Scene) -> bool:
    """Note that the user is no member."""
    return await scene.process.users.mark_left(scene.member)


async def shows_departure(documents: moving.Stores, scene: Scene) -> bool:
    """Return whether they are none."""
    user = await documents.users.load(scene.user.user_id)
    return user is not None and scene.member.guild_id not in user.memberships


async def write_task(scene: Scene) -> bool:
    """Change a task of a running job."""
    return await scene.process.jobs.write_tasks(scene.job, [dataclasses.replace(scene.task, revision=1 << 40)])


async def shows_task(documents: moving.Stores, scene: Scene) -> bool:
    """Return whether it is changed."""
    tasks = await documents.jobs.list_tasks(scene.job.job_id)
    return dataclasses.replace(scene.task, revision=1 << 40) in tasks


async def make_scene(db: database.Database, *, leased: bool) -> Scene:
    """Return a scene in which everything is copied, but for some changes of the release before."""
    process = moving.of_rows(db)
    guild_id = (await db["channels"].find_one({"gone_at": None}))["guild_id"]
    user_id = (await db["memberships"].find_one({"left_at": None}))["user_id"]
    job_id = (await db["units"].find_one({}))["job_id"]
    await db["jobs"].update_many({}, {"$set": {"active": True, "state": "RUNNING"}})
    for copier in (copying.GuildCopier(db), copying.UserCopier(db), copying.JobCopier(db)):
        await copy_all(copier)
    user, loaded = await process.users.load(user_id), await process.jobs.load(job_id)
    assert user is not None
    assert loaded is not None
    job, (first, second, *_) = loaded
    await db["guilds"].update_one({"_id": guild_id}, {"$inc": {"fence": 1}})
    await db["memberships"].update_many({"user_id": user_id}, {"$set": {"looked_at": NOW + 9}})
    await db["units"].update_one({"_id": f"{job_id}:{second.guild_id}"}, {"$set": {"revision": 1 << 39}})
    guild = (await process.guilds.get([guild_id]))[guild_id]
    fence = None
    if leased:
        fence = await process.guilds.acquire_lease(guild_id, now=NOW, until=NOW + 25, fetched_before=NOW)
    return Scene(process, guild, fence, user, next(iter(user.memberships.values())), job, first)


@pytest.mark.parametrize(
    ("kind", "write", "shows", "leased"),
    [
        (copying.GuildCopier, store_listing, shows_listing, False),
        (copying.GuildCopier, store_listing, shows_listing, True),
        (copying.UserCopier, store_list, shows_list, False),
        (copying.UserCopier, store_roles, shows_roles, False),
        (copying.UserCopier, mark_left, shows_departure, False),
        (copying.JobCopier, write_task, shows_task, False),
    ],
    ids=["listing", "listing-under-a-lease-from-before", "list", "roles", "departure", "task"],
)
async def test_a_write_is_not_undone_when_it_comes_in_the_midst_of_a_copy(
    old: database.Database,
    kind: type[copying.Copier],
    write: Callable[[Scene], Awaitable[bool]],
    shows: Callable[[moving.Stores, Scene], Awaitable[bool]],
    leased: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Between the copy's reading of the rows and its write of the document, which then changes nothing."""
    scene, documents = await make_scene(old, leased=leased), moving.of_documents(old)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "TRIES", 1)
        with pytest.raises(errors.StoreUnavailable):
            await copy_all(kind(old), lambda: write(scene))

    assert await shows(documents, scene)
    for copier in (copying.GuildCopier(old), copying.UserCopier(old), copying.JobCopier(old)):
        await copy_all(copier)
    assert await moving.snapshot(documents) == await moving.snapshot(scene.process)


async def test_the_newer_task_stays_when_a_turn_was_lost_between_document_and_row(old: database.Database) -> None:
    """The document's part is written first, and a copy does not take it back."""
    documents = moving.of_documents(old)
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


async def copy_all(copier: copying.Copier, do: Callable[[], Awaitable[bool]] | None = None) -> None:
    """Copy everything, and do something between the first reading and the first write."""
    real = copier._changes
    done: list[bool] = []

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

    def __init__(self, processes: list[moving.Stores]) -> None:
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
            if await moving.listed(store, guild_id, rows, at=next(self._moment)):
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
            rows = [values.user_guild(moving.G, permissions=number), values.user_guild(moving.G + 1)]
            assert await store.replace_guild_list(user, rows, next(self._moment))
            self.stored["rights", user_id] = number
            user = await store.load(user_id)
            assert user is not None
            assert await store.store_roles(user.memberships[moving.G + 1], [number], next(self._moment))
            self.stored["roles", user_id] = number
            self.written += 1

    async def write_job(self, number: int) -> None:
        """Run turn after turn of a job; the revision of its task is the value."""
        job_id = f"{number:x}" * 32
        store = self.processes[0].jobs
        job, _ = await store.create_or_join(values.job(job_id, user_id=70 + number))
        await store.add_tasks(
            job, [values.task(moving.G, revision=0), values.task(moving.G + 1, position=1, revision=0)]
        )
        for turn in itertools.count(0):
            if self.ended.is_set():
                return
            store = self.processes[turn % 2].jobs
            owned = await store.begin_turn(job_id, turn, now=NOW, until=NOW + 40)
            assert owned is not None
            assert len(owned[1]) == 2
            revision = job_updates.revision_of(turn + 1, 1)
            assert await store.write_tasks(owned[0], [values.task(moving.G, revision=revision)])
            assert await store.save(owned[0], owned[0], [values.task(moving.G + 1, position=1, revision=revision + 1)])
            self.stored["job", number] = revision
            self.written += 1

    async def read(self, guild_ids: list[int], user_ids: list[int], numbers: list[int]) -> int:
        """Read until the end; returns how often."""
        store, reads = self.processes[2], 0
        while not self.ended.is_set():
            await self.check(store, guild_ids, user_ids, numbers)
            reads += 1
        return reads

    async def check(self, store: moving.Stores, guild_ids: list[int], user_ids: list[int], numbers: list[int]) -> None:
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
                assert user.memberships[moving.G].permissions >= least["rights", user_id]
                roles = user.memberships[moving.G + 1].role_ids
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
        processes.append(moving.of_rows(old, attentive=False))
        await asyncio.sleep(schema.NOTICE / 3)
    fleet = Fleet(processes)
    guild_ids, user_ids, numbers = (
        [moving.G + 200, moving.G + 201, moving.G + 202],
        [moving.U + 1, moving.U + 2],
        [10, 11],
    )
    work = [
        *(fleet.write_guild(guild_id) for guild_id in guild_ids),
        *(fleet.write_user(user_id) for user_id in user_ids),
        *(fleet.write_job(number) for number in numbers),
        fleet.read(guild_ids, user_ids, numbers),
    ]

    async def go_on() -> None:
        try:
            await asyncio.sleep(0.3)
            await moving.migrate(old, settle=schema.NOTICE + 0.5)
            before = fleet.written
            await asyncio.sleep(0.5)
            assert fleet.written > before
        finally:
            fleet.ended.set()

    async with asyncio.TaskGroup() as group:
        for each in (*work, go_on()):
            group.create_task(each)

    await fleet.check(moving.of_documents(old), guild_ids, user_ids, numbers)
    assert fleet.written > 50
