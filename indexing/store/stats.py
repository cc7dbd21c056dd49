"""What an observer reads of the index in MongoDB; changes nothing, and never scans a collection."""

import dataclasses

import pymongo

from indexing.store import database as store_database

MOST_USERS = 500
"""Users with an active job whose budgets are looked at; of more than that a part stands for all."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoreStats:
    """
    Jobs and credentials.

    Attributes:
        active: Jobs that have not ended.
        overdue: Seconds since the most overdue of them should have moved; 0 when none is.
        working: Users with an active job, at most MOST_USERS, most overdue first.
        users: Users of whom anything is stored, by the collection's own count.
        reauth: Users whose credential Discord refuses.
    """

    active: int
    overdue: float
    working: tuple[int, ...]
    users: int
    reauth: int


async def read_store_stats(database: store_database.Database, now: float) -> StoreStats:
    """Read everything in four round trips; each uses an index that holds only what it asks for."""
    with store_database.translated():
        found = database["jobs"].find({"active": True}, {"user_id": 1, "next_turn_at": 1})
        rows = await found.sort("next_turn_at", pymongo.ASCENDING).limit(MOST_USERS).to_list(None)
        active = await database["jobs"].count_documents({"active": True}) if len(rows) == MOST_USERS else len(rows)
        users = await database["users"].estimated_document_count()
        reauth = await database["users"].count_documents({"reauth": True})
    overdue = max(0.0, now - rows[0]["next_turn_at"]) if rows else 0.0
    return StoreStats(active, overdue, tuple(row["user_id"] for row in rows), users, reauth)
