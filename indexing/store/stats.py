"""Job and credential statistics, read from MongoDB. Read-only, and without collection scans."""

import dataclasses

import pymongo

from indexing.store import database

MAX_USERS = 500
"""Users with an active job whose budgets are read. Beyond that number they are a sample."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoreStats:
    """
    Jobs and credentials.

    Attributes:
        active: Jobs that have not ended.
        overdue: Seconds by which the most overdue of them missed its next turn; 0 when none did.
        active_user_ids: Users with an active job, most overdue first, at most MAX_USERS.
        users: Stored users, estimated from the collection's metadata.
        reauth: Users who must log in again.
    """

    active: int
    overdue: float
    active_user_ids: tuple[int, ...]
    users: int
    reauth: int


async def read_store_stats(db: database.Database, now: float) -> StoreStats:
    """Read all statistics in at most four round trips, each by a partial index or from metadata."""
    with database.translated():
        cursor = db["jobs"].find({"active": True}, {"user_id": 1, "next_turn_at": 1})
        rows = await cursor.sort("next_turn_at", pymongo.ASCENDING).limit(MAX_USERS).to_list(None)
        active = await db["jobs"].count_documents({"active": True}) if len(rows) == MAX_USERS else len(rows)
        users = await db["users"].estimated_document_count()
        reauth = await db["users"].count_documents({"reauth": True})
    overdue = max(0.0, now - rows[0]["next_turn_at"]) if rows else 0.0
    return StoreStats(active, overdue, tuple(row["user_id"] for row in rows), users, reauth)
