"""
What is left of an erased user: a document without data, so that a write which is delivered late recreates nothing.

A tombstone is `{_id, version, erased, erased_at}`, where `erased` equals `version`. Every write that stores a user
again compares `erased` with what it read before, keeps it, and makes `version` grow. So writes from before the erasure
match neither the tombstone nor the user who has returned. Rosters are treated in the same way. The purge deletes
tombstones after a day.
"""

import datetime

from indexing.store import database

KEPT = datetime.timedelta(days=1)
"""How long a tombstone is kept: far longer than a turn may be queued, or a write delayed."""
FIELDS = {"version": 1, "erased": 1}
"""Projection of what tells a tombstone from a user."""
RETURNED = {"erased_at": ""}
"""Fields that a write unsets when it stores an erased user again."""


def is_tombstone(row: database.Document) -> bool:
    """Return whether nothing but the erasure is stored of the user of this document."""
    return row.get("erased") is not None and row["erased"] == row.get("version")


def of_user(row: database.Document | None) -> database.Document:
    """Return the fields of the tombstone that replaces a document, which may be missing."""
    version = max(database.first_version(), (row or {}).get("version", 0) + 1)
    return {"version": version, "erased": version, "erased_at": datetime.datetime.now(tz=datetime.UTC)}
