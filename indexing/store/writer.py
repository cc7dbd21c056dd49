"""
Conditional updates of one collection, gathered for some milliseconds and sent as one bulk.

Each statement names the document, and what of it must be as it was read; it changes nothing otherwise. Each also sets
`by` to a mark of its own. So a bulk that reports fewer matches than it has statements is asked which of them applied,
and a statement whose answer was lost (a time-out, a failover) can be sent again: if it had been applied, it matches
nothing the second time, and `by` tells that it was ours.

Round trips: 1 for a bulk of up to 1,000 statements; 1 more when some did not match.
"""

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import pymongo

from indexing import concurrency, errors
from indexing.store import database
from indexing.telemetry import logs

INTERVAL = 0.03
"""
Least seconds between two bulks of one collection.

With 0 a call to Discord costs twice the commands and half as much CPU again; with 0.05 a commit takes 47 ms at the
median instead of 29 (measured with 20 users of 60 guilds).
"""
MOST = 1_000
"""Statements in one bulk."""
PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each further attempt of a bulk that failed: what was paid for at Discord outlives a time-out."""


@dataclasses.dataclass(slots=True)
class _Statement:
    wanted: database.Document
    update: database.Document
    mark: bytes
    applied: bool = False

    @property
    def guarded(self) -> database.Document:
        """The filter, which is false once the statement has been applied."""
        return {**self.wanted, "by": {"$ne": self.mark}}

    def joins(self, other: "_Statement") -> bool:
        """Return whether both apply or neither: they want the same, only set fields, and the first keeps it true."""
        if self.wanted != other.wanted or not self.update.keys() == other.update.keys() == {"$set"}:
            return False
        return all(self.update["$set"].get(name, value) == value for name, value in self.wanted.items())


def _merged(statements: list[_Statement]) -> _Statement:
    if len(statements) == 1:
        return statements[0]
    last = statements[-1]
    fields = {name: value for each in statements for name, value in each.update["$set"].items()}
    return _Statement(last.wanted, {"$set": fields}, last.mark)


class Writer:
    """Writes to one collection. Loops are not mixed: a writer belongs to the event loop that first uses it."""

    def __init__(
        self,
        collection: database.Collection,
        *,
        observe: Callable[[float], None] = lambda _: None,
        interval: float = INTERVAL,
    ) -> None:
        """*observe* is told the seconds of every bulk, also of one that failed."""
        self._observe = observe
        self._collection = collection
        self._group = concurrency.GroupCommit(self._commit, interval=interval)
        self._log = logs.get(__name__)

    async def update(self, wanted: database.Document, update: database.Document) -> bool:
        """
        Apply *update* to the document that matches *wanted*, which names its `_id`; returns whether one did.

        Raises:
            errors.StoreUnavailable: The statement may have been applied or not.
        """
        mark = os.urandom(8)
        marked = {**update, "$set": {**update.get("$set", {}), "by": mark}}
        statement = _Statement(wanted, marked, mark)
        await self._group.submit(statement)
        return statement.applied

    async def _commit(self, statements: list[_Statement]) -> None:
        left = statements
        while left:
            # Two statements for one document go one after the other: the second may depend on the first.
            now: dict[Any, list[_Statement]] = {}
            later, held = [], set()
            for statement in left:
                key = statement.wanted["_id"]
                together = now.get(key)
                if together is None and len(now) < MOST:
                    now[key] = [statement]
                elif together is not None and key not in held and all(each.joins(statement) for each in together):
                    together.append(statement)
                else:
                    held.add(key)
                    later.append(statement)
            merged = [_merged(each) for each in now.values()]
            await self._persist(merged)
            for one, each in zip(merged, now.values(), strict=True):
                for statement in each:
                    statement.applied = one.applied
            left = later

    async def _persist(self, statements: list[_Statement]) -> None:
        """Write a bulk, again and again for a while when the store does not answer."""
        for attempt, pause in enumerate((*PAUSES, None)):
            began = time.perf_counter()
            try:
                await self._write(statements, again=attempt > 0)
            except errors.StoreUnavailable as problem:
                if pause is None:
                    raise
                self._log.warning("bulk_repeated", statements=len(statements), error=str(problem))
                await asyncio.sleep(pause)
            else:
                return
            finally:
                self._observe(time.perf_counter() - began)

    async def _write(self, statements: list[_Statement], *, again: bool) -> None:
        with database.translated():
            if len(statements) == 1:
                (one,) = statements
                done = await self._collection.update_one(one.guarded, one.update)
            else:
                bulk = [pymongo.UpdateOne(each.guarded, each.update) for each in statements]
                done = await self._collection.bulk_write(bulk, ordered=False)
        if done.matched_count == len(statements):
            for statement in statements:
                statement.applied = True
            return
        if len(statements) > 1 or again:
            await self._find_applied(statements)

    async def _find_applied(self, statements: list[_Statement]) -> None:
        ids = [statement.wanted["_id"] for statement in statements]
        with database.translated():
            rows = await self._collection.find({"_id": {"$in": ids}}, {"by": 1}).to_list(None)
        marks = {row["_id"]: row.get("by") for row in rows}
        for statement in statements:
            statement.applied = marks.get(statement.wanted["_id"]) == statement.mark
