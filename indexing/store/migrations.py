"""
Moves a database from rows to documents while its fleet runs, and keeps the indexes as they are declared here.

A migration copies everything, batch by batch, and stores how far it is. A second pass copies what the release before
changed meanwhile; this release writes both forms. Then `meta` says `switching`, and, when every process has noticed
and every operation on rows has ended, `documents`. One process migrates at a time, by a lease in `meta`.
"""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any

import pymongo
import pymongo.errors

from indexing import errors
from indexing.domain import ports
from indexing.store import database, schema
from indexing.store.rows import copying
from indexing.telemetry import logs

LEASE = 30.0
"""Seconds after its last batch for which a process keeps the lease of a migration."""
SETTLE = 30.0
"""Seconds in `switching`: more than `schema.NOTICE` and the longest operation of a process together."""
POSITION = "migration"
"""Id of the document in `meta` that holds the lease, and where to continue."""


class Held(Exception):
    """Another process migrates, or was killed less than `LEASE` seconds ago."""


class NotMigrated(Exception):
    """The rows still count."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """
    A batch that is done.

    Attributes:
        step: The collection.
        again: Whether this is the second pass.
        seen: Documents that the step has seen so far, of about `total`.
        copied: Documents of this batch that were written.
    """

    step: str
    again: bool
    seen: int
    total: int
    copied: int
    seconds: float


class Migrator:
    """
    Migrates a database. Round trips: some 5 for each batch, whose sizes are in `copying`.

    Args:
        db: The database.
        clock: Returns the epoch second.
        on_batch: Called after each batch.
        settle: Seconds in `switching`.
    """

    def __init__(
        self,
        db: database.Database,
        clock: ports.Clock,
        on_batch: Callable[[Batch], None] = lambda _: None,
        *,
        settle: float = SETTLE,
    ) -> None:
        self._db = db
        self._meta = db["meta"]
        self._clock = clock
        self._on_batch = on_batch
        self._settle = settle
        self._owner = uuid.uuid4().hex

    async def migrate(self) -> None:
        """
        Migrate; returns at once when documents count already.

        Raises:
            Held: Another process migrates.
            copying.OldRelease: End the processes of the release before, then start again.
            errors.StoreUnavailable: Run again to continue where this stopped.
        """
        state = await (await schema.open_schema(self._db)).state()
        if state is schema.State.DOCUMENTS:
            return
        position = await self._acquire()
        if state is schema.State.ROWS:
            await self._copy_all(position)
            await self._set_state(schema.State.SWITCHING)
        await self._wait()
        await self._set_state(schema.State.DOCUMENTS)
        await make_indexes(self._db)
        with database.translated():
            await self._meta.delete_one({"_id": POSITION, "owner": self._owner})

    async def _copy_all(self, position: database.Document) -> None:
        began = self._clock()
        guilds = copying.GuildCopier(self._db)
        steps: list[copying.Walk] = [guilds, copying.UserCopier(self._db), copying.JobCopier(self._db)]
        first, after = position.get("step", 0), position.get("after")
        for number, step in enumerate(steps[first:], start=first):
            await self._walk(step, number, after)
            after = None
        # The second pass is not resumed half-way: what it has passed may have been changed since.
        await self._renew({"step": len(steps), "after": None})
        guilds.old_since = began
        for step in (*steps, copying.RosterCleaner(self._db)):
            await self._walk(step, None, None)

    async def _walk(self, step: copying.Walk, number: int | None, after: Any) -> None:  # noqa: ANN401 -- an id
        """Do all batches of a step; a numbered one stores its position."""
        seen, total = 0, await step.count()
        started = time.monotonic()
        while ids := await step.next_ids(after):
            copied = await step.copy(ids)
            after, seen = ids[-1], seen + len(ids)
            await self._renew({} if number is None else {"step": number, "after": after})
            now = time.monotonic()
            self._on_batch(Batch(step.name, number is None, seen, max(seen, total), copied, now - started))
            started = now

    async def _acquire(self) -> database.Document:
        """Take the lease; returns the stored position."""
        now = self._clock()
        lease = {"owner": self._owner, "until": now + LEASE}
        try:
            with database.translated():
                await self._meta.insert_one({"_id": POSITION, **lease})
        except pymongo.errors.DuplicateKeyError:
            with database.translated():
                row = await self._meta.find_one_and_update({"_id": POSITION, "until": {"$lte": now}}, {"$set": lease})
            if row is None:
                raise Held from None
            return dict(row)
        return {}

    async def _renew(self, position: database.Document) -> None:
        change = {"$set": {**position, "until": self._clock() + LEASE}}
        with database.translated():
            done = await self._meta.update_one({"_id": POSITION, "owner": self._owner}, change)
        if not done.matched_count:
            raise Held

    async def _set_state(self, state: schema.State) -> None:
        change = {"state": state.value, "at": self._clock()}
        with database.translated():
            await self._meta.update_one({"_id": schema.META}, {"$set": change})
        logs.get(__name__).info("schema_state_stored", state=state.value)

    async def _wait(self) -> None:
        """Wait until no operation of a process that reads rows can be under way, and keep the lease."""
        until = time.monotonic() + self._settle
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, LEASE / 6))
            await self._renew({})


async def drop_rows(db: database.Database, clock: ports.Clock, *, settle: float = SETTLE) -> None:
    """
    Drop the collections of rows.

    Raises:
        NotMigrated: Documents do not count yet, or not long enough for every process to have noticed.
        errors.StoreUnavailable: Start again.
    """
    with database.translated():
        row = await db["meta"].find_one({"_id": schema.META})
    if not row or row["state"] != schema.State.DOCUMENTS or clock() < row.get("at", 0.0) + settle:
        raise NotMigrated
    for name in schema.ROW_COLLECTIONS:
        with database.translated():
            await database.unmeasured(db)[name].drop()
        logs.get(__name__).info("rows_dropped", collection=name)


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """A declared index; without a name it gets the one that MongoDB makes of its keys."""

    collection: str
    keys: tuple[tuple[str, int], ...]
    options: database.Document = dataclasses.field(default_factory=dict)
    name: str = ""


def _index(collection: str, *keys: str, name: str = "", **options: object) -> Index:
    """Declare an index; a key that begins with "-" is descending."""
    order = tuple((key.lstrip("-"), -1 if key.startswith("-") else 1) for key in keys)
    return Index(collection, order, options, name or "_".join(f"{key}_{way}" for key, way in order))


SHARED = (
    _index("users", "reauth", name="reauth", partialFilterExpression={"reauth": True}),
    _index("users", "erased_at", name="erased", partialFilterExpression={"erased": {"$gt": 0}}),
    _index("guilds", "looked_at"),
    _index("jobs", "user_id", name="one_active", unique=True, partialFilterExpression={"active": True}),
    _index("jobs", "user_id", "-created_at"),
    _index("jobs", "next_turn_at", name="overdue", partialFilterExpression={"active": True}),
    _index("jobs", "expires_at", expireAfterSeconds=0),
    _index("erased_jobs", "expires_at", expireAfterSeconds=0),
    _index("requests", "expires_at", expireAfterSeconds=0),
    _index("requests", "user_id", name="about", partialFilterExpression={"user_id": {"$gt": 0}}),
    _index("rosters", "guild_ids"),
    _index("guilds", "oldest_gone_at", name="gone", partialFilterExpression={"oldest_gone_at": {"$gt": 0}}),
)
"""Indexes of both forms."""
OF_DOCUMENTS = (
    _index("guilds", "next_refresh_at", name="due", partialFilterExpression={"next_refresh_at": {"$gt": 0}}),
    _index("guilds", "shard", name="fed", partialFilterExpression={"shard": {"$gt": ""}}),
)
OF_ROWS = (
    _index("memberships", "user_id"),
    _index("memberships", "guild_id"),
    _index("memberships", "left_at", name="left", partialFilterExpression={"left_at": {"$gt": 0}}),
    _index("guilds", "next_refresh_at"),
    _index("channels", "guild_id"),
    _index("channels", "gone_at", name="gone", partialFilterExpression={"gone_at": {"$gt": 0}}),
    _index("units", "job_id"),
    _index("units", "expires_at", expireAfterSeconds=0),
)
OPTIONS = ("unique", "sparse", "partialFilterExpression", "expireAfterSeconds")
"""Options by which two indexes of the same keys differ."""
CONFLICTS = {85, 86}
"""Codes for "same keys, other options" and "same name, other options"."""
NOT_FOUND = 27


async def make_indexes(db: database.Database, state: schema.State = schema.State.DOCUMENTS) -> None:
    """
    Create what is missing, and change what differs, of the form in use; safe to run by every process at every boot.

    Raises:
        errors.StoreUnavailable: MongoDB does not answer.
    """
    plain = database.unmeasured(db)
    declared = SHARED + (OF_ROWS if state is schema.State.ROWS else OF_DOCUMENTS)
    for name in dict.fromkeys(index.collection for index in declared):
        with database.translated():
            found = await plain[name].index_information()
        for index in declared:
            if index.collection == name:
                await _make_index(plain, index, found)


async def _make_index(db: database.Database, index: Index, found: database.Document) -> None:
    """Make one index of a collection that had the indexes *found*, by name."""
    collection = db[index.collection]
    others = {name: _options(info) for name, info in found.items() if _keys(info) == index.keys}
    same = next((name for name, options in others.items() if options == index.options), None)
    if same is None:
        same = await _change_expiry(db, index, others) or await _create(collection, index, set(found), set(others))
    for name in others.keys() - {same}:
        await _drop(collection, name)


async def _change_expiry(db: database.Database, index: Index, others: dict[str, database.Document]) -> str | None:
    """Change the time to live of an index that differs in nothing else; returns its name."""
    for name, options in others.items():
        wanted = {**options, "expireAfterSeconds": index.options.get("expireAfterSeconds")}
        if "expireAfterSeconds" in options and wanted == index.options:
            change = {"name": name, "expireAfterSeconds": wanted["expireAfterSeconds"]}
            with database.translated():
                await db.command({"collMod": index.collection, "index": change})
            _log_change(index, "changed", name)
            return name
    return None


async def _create(collection: database.Collection, index: Index, taken: set[str], others: set[str]) -> str:
    """Create an index, under another name if its own is taken by one that differs; returns the name."""
    names = (index.name, *(f"{index.name}_{number}" for number in range(2, len(taken) + 3)))
    name = next(each for each in names if each not in taken)
    try:
        await _create_named(collection, index, name)
    except errors.StoreUnavailable as error:
        if getattr(error.__cause__, "code", None) not in CONFLICTS:
            raise
        # Servers before 5.0 have one index for the same keys; another process may have made it meanwhile.
        for other in others:
            await _drop(collection, other)
        await _create_named(collection, index, name)
    if others:
        _log_change(index, "created", name)
    return name


async def _create_named(collection: database.Collection, index: Index, name: str) -> None:
    with database.translated():
        await collection.create_index(list(index.keys), name=name, **index.options)


async def _drop(collection: database.Collection, name: str) -> None:
    try:
        with database.translated():
            await collection.drop_index(name)
    except errors.StoreUnavailable as error:
        if getattr(error.__cause__, "code", None) != NOT_FOUND:
            raise
        return
    logs.get(__name__).info("index_changed", collection=collection.name, index=name, change="dropped")


def _log_change(index: Index, change: str, name: str) -> None:
    logs.get(__name__).info("index_changed", collection=index.collection, index=name, change=change)


def _keys(info: database.Document) -> tuple[tuple[str, int], ...]:
    return tuple((key, int(way)) for key, way in info["key"])


def _options(info: database.Document) -> database.Document:
    # A flag that is off is left out; a time to live of 0 is not.
    return {name: info[name] for name in OPTIONS if name in info and info[name] is not False}
