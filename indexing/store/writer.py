"""
Conditional updates of one collection, collected for some milliseconds and sent as one bulk.

Each statement names a document and the field values that it requires; otherwise it changes nothing. Each also sets `by`
to a unique mark. When a bulk reports fewer matches than statements, the marks show which statements were applied. A
statement whose response was lost (a time-out, a failover) can be sent again: if it was applied, it matches nothing the
second time, and the mark in `by` identifies it.

The mark of a statement is overwritten by the next one, so a copy that TCP delivers after that would be applied again.
Ordered statements are also numbered: one is applied only to a document whose `step` is smaller than its own.

Round trips: 1 for a bulk of up to 1,000 statements; 1 more when some did not match, and another bulk when one that was
merged of several filters did not.
"""

import asyncio
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Collection
from typing import Any

import pymongo

from indexing import concurrency, errors
from indexing.store import database
from indexing.telemetry import logs

INTERVAL = 0.03
"""
Least seconds between two bulks of one collection.

With 0 a call to Discord costs twice the commands and 1.5 times the CPU; with 0.05 a commit takes 47 ms at the
median instead of 29 (measured with 20 users of 60 guilds).
"""
MOST = 1_000
"""Statements in one bulk."""
STEP = "step"
"""Field with the number of the last ordered statement. Each owner of a document begins at 0."""
Announce = Callable[[Collection[Any]], None]
"""Called with the ids of documents after new versions of them were stored, so that other processes hear of it soon."""
PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each retry of a failed bulk, so that data fetched from Discord survives a time-out."""


@dataclasses.dataclass(slots=True)
class _Statement:
    wanted: database.Document
    update: database.Document
    mark: bytes
    ordered: bool = False
    step: int = 0
    applied: bool = False
    too_large: errors.DocumentTooLarge | None = None
    alone: bool = False

    @property
    def guarded(self) -> database.Document:
        """The filter, which is false once the statement has been applied."""
        later = {STEP: {"$not": {"$gte": self.step}}} if self.step else {}
        return {**self.wanted, **later, "by": {"$ne": self.mark}}

    @property
    def makes_version(self) -> bool:
        """Whether the statement was applied and made a new version of its document."""
        return self.applied and "version" in self.update.get("$inc", {})

    def number(self, step: int) -> None:
        """Place the statement after those with smaller numbers."""
        self.step = step
        self.update = {**self.update, "$set": {**self.update["$set"], STEP: step}}

    def separate(self) -> "_Statement":
        """Never merge the statement again; returns it."""
        self.alone = True
        return self

    def joins(self, other: "_Statement") -> bool:
        """Return whether both can be merged, *other* being the later one."""
        if self.alone or other.alone:
            return False
        return self._continues(other) or self._is_independent_of(other)

    def _continues(self, other: "_Statement") -> bool:
        """Return whether both have the same filter, only `$set`, and the first keeps the filter true."""
        if self.wanted != other.wanted or self.ordered != other.ordered:
            return False
        if not self.update.keys() == other.update.keys() == {"$set"}:
            return False
        return all(self.update["$set"].get(name, value) == value for name, value in self.wanted.items())

    def _is_independent_of(self, other: "_Statement") -> bool:
        """Return whether neither requires or sets what the other sets, so that their order does not matter."""
        if self.ordered or other.ordered or not (self.sets_only and other.sets_only):
            return False
        if any(self.wanted[name] != other.wanted[name] for name in self.wanted.keys() & other.wanted.keys()):
            return False
        ours, theirs = self.changed, other.changed
        overlaps = _overlap(ours, theirs) or _overlap(ours, other.wanted) or _overlap(theirs, self.wanted)
        return not (overlaps or "version" in self.wanted or "version" in other.wanted)

    @property
    def sets_only(self) -> bool:
        """Whether the statement sets fields, and makes a version at most."""
        return self.update.keys() <= {"$set", "$inc"} and self.update.get("$inc", {}).keys() <= {"version"}

    @property
    def changed(self) -> Collection[str]:
        """Paths of the fields that the statement sets."""
        return {name for name in self.update["$set"] if name != "by"}


def _overlap(some: Collection[str], others: Collection[str]) -> bool:
    """Return whether a path of a document is equal to one of the others, or within it, or around it."""
    return any(
        one == other or f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
        for one in some
        for other in others
    )


def _merged(statements: list[_Statement]) -> _Statement:
    if len(statements) == 1:
        return statements[0]
    last = statements[-1]
    fields = {name: value for each in statements for name, value in each.update["$set"].items()}
    wanted = {name: value for each in statements for name, value in each.wanted.items()}
    update: database.Document = {"$set": fields}  # with the mark of the last
    if any("$inc" in each.update for each in statements):
        update["$inc"] = {"version": 1}
    return _Statement(wanted, update, last.mark, last.ordered)


def _grouped(statements: list[_Statement]) -> tuple[list[list[_Statement]], list[_Statement]]:
    """
    Return the statements of the next bulk, those that can be merged together, and the statements to send after it.

    Statements for one document that cannot be merged are sent in order: the second may depend on the first.
    """
    now: dict[Any, list[_Statement]] = {}
    later, held = [], set()
    for statement in statements:
        key = statement.wanted["_id"]
        together = now.get(key)
        if together is None and len(now) < MOST:
            now[key] = [statement]
        elif together is not None and key not in held and all(each.joins(statement) for each in together):
            together.append(statement)
        else:
            held.add(key)
            later.append(statement)
    return list(now.values()), later


class Writer:
    """Writes to one collection. A writer belongs to the event loop that first uses it."""

    def __init__(
        self,
        collection: database.Collection,
        *,
        observe: Callable[[float], None] = lambda _: None,
        announce: "Announce" = lambda _: None,
        interval: float = INTERVAL,
    ) -> None:
        """*observe* is called with the seconds of every bulk, failed ones included; *announce* see `Announce`."""
        self._observe = observe
        self._announce = announce
        self._collection = collection
        self._steps = itertools.count(1)
        self._group = concurrency.GroupCommit(self._commit, interval=interval)
        self._log = logs.get(__name__)

    async def update(
        self, wanted: database.Document, update: database.Document, *, ordered: bool = False, urgent: bool = False
    ) -> bool:
        """
        Apply *update* to the document that matches *wanted*, which names its `_id`; returns whether one did.

        An *urgent* statement does not wait for others to go with it.

        *ordered* statements need a document that only this writer writes until another owner sets its step to 0.

        Raises:
            errors.StoreUnavailable: The statement may have been applied or not.
            errors.DocumentTooLarge: It was not applied; the others of its bulk were.
        """
        mark = os.urandom(8)
        marked = {**update, "$set": {**update.get("$set", {}), "by": mark}}
        statement = _Statement(wanted, marked, mark, ordered)
        await self._group.submit(statement, urgent=urgent)
        if statement.too_large is not None:
            raise statement.too_large
        return statement.applied

    async def _commit(self, statements: list[_Statement]) -> None:
        left = statements
        while left:
            groups, later = _grouped(left)
            merged = [_merged(each) for each in groups]
            for one in merged:
                if one.ordered:
                    one.number(next(self._steps))
            await self._persist(merged)
            again: list[_Statement] = []
            for one, each in zip(merged, groups, strict=True):
                if not one.applied and any(statement.wanted != one.wanted for statement in each):
                    # One of several filters did not match: each decides for itself.
                    again += [statement.separate() for statement in each]
                    continue
                for statement in each:
                    statement.applied, statement.too_large = one.applied, one.too_large
            if versions := [one.wanted["_id"] for one in merged if one.makes_version]:
                self._announce(versions)
            left = again + later

    async def _persist(self, statements: list[_Statement], *, again: bool = False) -> None:
        """
        Write a bulk, and retry it for some seconds when the store is unavailable; *again* if it may have been applied.

        A statement that is too large ends its whole bulk, so that each is then sent alone.
        """
        for attempt, pause in enumerate((*PAUSES, None)):
            began = time.perf_counter()
            try:
                await self._write(statements, again=again or attempt > 0)
            except errors.DocumentTooLarge as problem:
                if len(statements) == 1:
                    statements[0].too_large = problem
                    return
                for statement in statements:
                    await self._persist([statement], again=True)
                return
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
