"""
The form of the stored data, as `meta` says: rows, as the release before keeps them, or documents.

| state | read | written |
|---|---|---|
| rows | rows | rows and documents |
| switching | documents | rows and documents |
| documents | documents | documents |

Each state agrees with the one before and the one after, so that processes may differ by one state: what a process
writes is in the form that any other reads. A process looks at `meta` before an operation, at most once in `NOTICE`
seconds, and a migration leaves `switching` only when every operation of the state before has ended (decision 29).
"""

import enum
import time
from collections.abc import Callable

import pymongo.errors

from indexing.store import database
from indexing.telemetry import logs

NOTICE = 1.0
"""Seconds for which a process relies on the state that it has read."""
META = "schema"
ROW_COLLECTIONS = ("channels", "memberships", "units")
"""One document for each channel, membership and guild task."""
SHARED_COLLECTIONS = ("users", "guilds", "jobs")
"""Collections of both forms."""


class State(enum.StrEnum):
    """How far the data of all processes are."""

    ROWS = "rows"
    SWITCHING = "switching"
    DOCUMENTS = "documents"


class Schema:
    """The state, read again when it is older than `NOTICE`; documents are final."""

    def __init__(self, db: database.Database, state: State, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._meta = db["meta"]
        self._state = state
        self._monotonic = monotonic
        self._read_at = monotonic()
        self._log = logs.get(__name__)

    async def state(self) -> State:
        """Return the state. Raises errors.StoreUnavailable."""
        began = self._monotonic()
        if self._state is State.DOCUMENTS or began - self._read_at < NOTICE:
            return self._state
        found = await _read_state(self._meta)
        if found is not None and found is not self._state:
            self._log.info("schema_changed", before=self._state.value, now=found.value)
            self._state = found
        self._read_at = began
        return self._state


async def open_schema(db: database.Database, initial: str = "auto") -> Schema:
    """
    Return the state of a database, and store it when nothing is stored yet.

    Args:
        db: The database.
        initial: State of an empty database: `rows` or `documents`; `auto` is documents.

    Raises:
        errors.StoreUnavailable: MongoDB does not answer.
    """
    state = await _read_state(db["meta"])
    if state is None:
        state = await _find_state(db) or (State.ROWS if initial == State.ROWS else State.DOCUMENTS)
        try:
            with database.translated():
                await db["meta"].insert_one({"_id": META, "state": state.value})
        except pymongo.errors.DuplicateKeyError:
            state = await _read_state(db["meta"]) or state
    return Schema(db, state)


async def _read_state(meta: database.Collection) -> State | None:
    with database.translated():
        row = await meta.find_one({"_id": META})
    return State(row["state"]) if row else None


async def _find_state(db: database.Database) -> State | None:
    """Return the state of a database without `meta` by what it holds; None when it is empty."""
    for name in ROW_COLLECTIONS:
        if await _holds(db[name], {}):
            return State.ROWS
    if await _holds(db["guilds"], {"schema": 2}):
        return State.DOCUMENTS
    # Credentials or jobs only: of the release before, whose first rows may be written any moment.
    for name in SHARED_COLLECTIONS:
        if await _holds(db[name], {}):
            return State.ROWS
    return None


async def _holds(collection: database.Collection, wanted: database.Document) -> bool:
    with database.translated():
        return await collection.find_one(wanted, {"_id": 1}) is not None
