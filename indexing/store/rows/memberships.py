"""
Users whose rights and roles are rows of `memberships`, with the document's parts beside them in the user's document.

A write of roles compares row and document with what was known before asking, and the row is first: a copy that has read
the row before is either undone by the document's part, or found different when it looks again.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pymongo

from indexing.domain import model, ports
from indexing.store import credentials, database, schema, tombstones, users, writer
from indexing.store.rows import channels

ROWS, DOCUMENTS = schema.State.ROWS, schema.State.DOCUMENTS
LEFT = {"role_ids": None, "roles_at": None, "looked_at": None}
"""What is forgotten of a membership that has ended."""
LEAST = 1e-6
"""Least difference between two moments of which something is known about a member's roles."""


class RowUsers(users.Users):
    """Port `ports.Users`. Round trips: those of `users.Users`, and 2 for the rows, 3 for a guild list."""

    def __init__(  # noqa: PLR0913 -- those of users.Users, and two
        self,
        db: database.Database,
        safe: credentials.Vault,
        form: schema.Schema,
        clock: ports.Clock,
        *,
        observe: Callable[[float], None] = lambda _: None,
        announce: writer.Announce = lambda _: None,
    ) -> None:
        super().__init__(db, safe, observe=observe, announce=announce)
        self._memberships = db["memberships"]
        self._form = form
        self._clock = clock

    async def load(self, user_id: int) -> model.User | None:
        """Return all that is stored of the user but their credential; None when nothing is."""
        if await self._form.state() is not ROWS:
            return await super().load(user_id)
        return (await self._load_rows([user_id])).get(user_id)

    async def versions(self, user_ids: Collection[int]) -> dict[int, int]:
        """Return the versions of those of the users of whom anything is stored, by id."""
        if not user_ids or await self._form.state() is not ROWS:
            return await super().versions(user_ids)
        return {user_id: user.version for user_id, user in (await self._load_rows(user_ids)).items()}

    async def _load_rows(self, user_ids: Collection[int]) -> dict[int, model.User]:
        shown = ("listed_at", "pinned", "muted", "list_proven_at", "shown_until", "reauth", "scopes", "mark")
        fields = (*shown, *tombstones.FIELDS)
        with database.translated():
            found = await self._users.find({"_id": {"$in": list(user_ids)}}, fields).to_list(None)
        members = await read_memberships(self._memberships, {"$in": list(user_ids)})
        known = [row for row in found if not tombstones.is_tombstone(row)]
        return {row["_id"]: _user(row, members.get(row["_id"], {})) for row in known}

    async def replace_guild_list(self, known: model.User, guilds: Sequence[model.UserGuild], asked_at: float) -> bool:
        """Store the user's complete guild list; returns False and changes nothing when another one came between."""
        if await self._form.state() is DOCUMENTS:
            return await super().replace_guild_list(known, guilds, asked_at)
        # Claimed by the least later moment: until the rows are written, the list must not look younger than it is.
        claimed_at = 0.0 if known.listed_at is None else math.nextafter(known.listed_at, math.inf)
        with database.translated():
            done = await self._users.update_one(
                {"_id": known.user_id, "listed_at": known.listed_at, "erased": known.erasure},
                {"$set": {"listed_at": claimed_at}, "$inc": {"version": 1}},
            )
        if not done.matched_count:
            return False
        await self._write_list(known, guilds, asked_at)
        return await super().replace_guild_list(dataclasses.replace(known, listed_at=claimed_at), guilds, asked_at)

    async def _write_list(self, known: model.User, guilds: Sequence[model.UserGuild], asked_at: float) -> None:
        """Write the memberships that a guild list changes; one with the rights that were known is left alone."""
        with database.translated():
            rows = await self._memberships.find({"user_id": known.user_id}).to_list(None)
        before = {row["guild_id"]: row for row in rows}
        new, changes = [], []
        for guild in guilds:
            old = before.pop(guild.guild_id, None)
            fields = {"owner": guild.owner, "permissions": guild.permissions, "left_at": None}
            member = known.memberships.get(guild.guild_id)
            if old is None:
                ids = {"user_id": known.user_id, "guild_id": guild.guild_id}
                new.append({"_id": _key(**ids), **ids, **fields, "roles_changed_at": asked_at})
            elif member is not None and old.get("left_at") is not None:
                # Left since the user was loaded: a list that was requested before does not bring them back.
                continue
            elif member is None or (member.owner, member.permissions) != (guild.owner, guild.permissions):
                # Other rights, so that the roles may be others too.
                moment = max(asked_at, _roles_changed_at(old) + LEAST)
                roles = {"role_ids": None, "roles_at": None, "roles_changed_at": moment}
                as_read = {"_id": old["_id"], "left_at": old.get("left_at")}
                changes.append(pymongo.UpdateOne(as_read, {"$set": {**fields, **roles}}))
        changes += [
            pymongo.UpdateOne({"_id": row["_id"]}, {"$set": {**LEFT, "left_at": asked_at}})
            for row in before.values()
            if row.get("left_at") is None
        ]
        await database.insert_new(self._memberships, new)
        if changes:
            with database.translated():
                await self._memberships.bulk_write(changes, ordered=False)

    async def store_roles(self, known: model.Membership, roles: Sequence[int], asked_at: float) -> bool:
        """Store the user's role ids in a guild; returns False when anything newer is known, or the user has left."""
        state = await self._form.state()
        if state is not DOCUMENTS:
            moment = max(asked_at, (known.roles_changed_at or 0.0) + LEAST)
            change = {"role_ids": list(roles), "roles_at": asked_at, "roles_changed_at": moment}
            in_row = await self._change_row(known, change)
            if state is ROWS and not in_row:
                return False
        stored = await super().store_roles(known, roles, asked_at)
        return stored or state is ROWS

    async def mark_left(self, known: model.Membership) -> bool:
        """Note that the user is not a member any more; returns False when anything newer is known."""
        state = await self._form.state()
        if state is not DOCUMENTS:
            in_row = await self._change_row(known, {**LEFT, "left_at": self._clock()})
            if state is ROWS and not in_row:
                return False
        stored = await super().mark_left(known)
        return stored or state is ROWS

    async def _change_row(self, known: model.Membership, change: database.Document) -> bool:
        """Change a membership that is as it was known; whatever the release before writes shows in these fields."""
        as_known = {
            "_id": _key(known.user_id, known.guild_id),
            "left_at": None,
            "owner": known.owner,
            "permissions": known.permissions,
            "roles_at": known.roles_at,
            "roles_changed_at": {"$not": {"$gt": known.roles_changed_at or 0.0}},
        }
        with database.translated():
            done = await self._memberships.update_one(as_known, {"$set": change})
        return bool(done.matched_count)

    async def mark_viewed(self, user_id: int, guild_id: int, now: float) -> None:
        """Note that the user views one of their guilds."""
        await super().mark_viewed(user_id, guild_id, now)
        if await self._form.state() is not DOCUMENTS:
            seldom = {"looked_at": {"$not": {"$gt": now - users.VIEW_STEP}}}
            wanted = {"_id": _key(user_id, guild_id), "left_at": None, **seldom}
            with database.translated():
                await self._memberships.update_one(wanted, {"$set": {"looked_at": now}})


def _key(user_id: int, guild_id: int) -> str:
    return f"{user_id}:{guild_id}"


async def read_memberships(
    memberships: database.Collection, users: database.Document
) -> dict[int, dict[int, model.Membership]]:
    """Return the present memberships of the users whose ids match, by user and guild."""
    with database.translated():
        rows = await memberships.find({"user_id": users, "left_at": None}).to_list(None)
    found: dict[int, dict[int, model.Membership]] = {}
    for row in rows:
        found.setdefault(row["user_id"], {})[int(row["guild_id"])] = _membership(row)
    return found


def _membership(row: database.Document) -> model.Membership:
    # The previous release leaves role ids that are not trusted any more.
    roles: Iterable[Any] | None = row.get("role_ids") if row.get("roles_at") is not None else None
    return model.Membership(
        user_id=int(row["user_id"]),
        guild_id=int(row["guild_id"]),
        owner=row.get("owner", False),
        permissions=row.get("permissions", 0),
        role_ids=None if roles is None else tuple(sorted({int(role) for role in roles})),
        roles_at=row.get("roles_at"),
        last_viewed_at=row.get("looked_at"),
        roles_changed_at=_roles_changed_at(row),
    )


def _roles_changed_at(row: database.Document) -> float:
    """Return the newest moment of which anything is known about the roles; the release before writes `roles_at`."""
    return max(row.get("roles_changed_at") or 0.0, row.get("roles_at") or 0.0)


def _user(row: database.Document, members: dict[int, model.Membership]) -> model.User:
    preferences = model.Preferences(tuple(row.get("pinned", ())), tuple(row.get("muted", ())))
    ordered = dict(sorted(members.items()))
    shown = [dataclasses.replace(member, last_viewed_at=None) for member in ordered.values()]
    proven, until = users.is_list_proven(row), users.shown_until(row)
    version = channels.version_of((row.get("listed_at"), shown, preferences, proven, until))
    return model.User(
        int(row["_id"]), version, row.get("listed_at"), ordered, preferences, proven, until, row.get("erased")
    )
