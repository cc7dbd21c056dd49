"""Users in MongoDB: the sealed credential, preferences, and memberships (one document for each user and guild)."""

from collections.abc import Sequence

import pymongo

from indexing import errors
from indexing.domain import model, ports
from indexing.store import credentials, database

LOOK_STEP = 300.0
"""Seconds between two notes that a user looks at a guild."""
LEFT = {"role_ids": None, "roles_at": None, "looked_at": None}
"""What is forgotten of a membership that has ended."""
RIGHTS = ("owner", "permissions")
"""What the guild list says of a user's rights: they follow from his roles."""


def _key(user_id: int, guild_id: int) -> str:
    return f"{user_id}:{guild_id}"


class Users:
    """Port `ports.Users`. Round trips: one for each method, up to four for `listed`."""

    def __init__(self, database: database.Database, safe: credentials.Vault) -> None:
        self._users = database["users"]
        self._memberships = database["memberships"]
        self._safe = safe

    async def put_credential(self, user_id: int, credential: ports.Credential) -> None:
        """Store the credential, encrypted, in place of any older one."""
        change = credentials.sealed(self._safe, user_id, credential)
        with database.translated():
            await self._users.update_one({"_id": user_id}, {"$set": change}, upsert=True)

    async def credential(self, user_id: int) -> ports.Credential:
        """Return the credential. Raises errors.CredentialMissing or errors.ReauthRequired."""
        with database.translated():
            row = await self._users.find_one(
                {"_id": user_id}, {"credential": 1, "scopes": 1, "expires_at": 1, "reauth": 1}
            )
        if not row or not row.get("credential"):
            raise errors.CredentialMissing(user_id)
        if row.get("reauth"):
            raise errors.ReauthRequired(user_id)
        try:
            return credentials.opened(self._safe, user_id, row)
        except credentials.CannotOpen as error:
            raise errors.ReauthRequired(user_id) from error

    async def exists(self, user_id: int) -> bool:
        """Return whether anything is stored of the user."""
        with database.translated():
            return await self._users.find_one({"_id": user_id}, {"_id": 1}) is not None

    async def get_preferences(self, user_id: int) -> model.Preferences:
        """Return the user's wishes about his guilds."""
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, {"pinned": 1, "muted": 1})
        wishes = row or {}
        return model.Preferences(tuple(wishes.get("pinned", ())), tuple(wishes.get("muted", ())))

    async def put_preferences(self, user_id: int, wishes: model.Preferences) -> None:
        """Replace the user's wishes."""
        change = {"pinned": list(wishes.pinned), "muted": list(wishes.muted)}
        with database.translated():
            await self._users.update_one({"_id": user_id}, {"$set": change}, upsert=True)

    async def replace_guild_list(self, user_id: int, guilds: Sequence[model.UserGuild], now: float) -> None:
        """Store the user's complete guild list; memberships it no longer names are left. Only changes are written."""
        with database.translated():
            rows = await self._memberships.find({"user_id": user_id}).to_list(None)
        before = {row["guild_id"]: row for row in rows}
        new, changes = [], []
        for guild in guilds:
            old = before.pop(guild.guild_id, None)
            fields = {"owner": guild.owner, "permissions": guild.permissions, "left_at": None}
            if old is None:
                new.append(
                    {"_id": _key(user_id, guild.guild_id), "user_id": user_id, "guild_id": guild.guild_id, **fields}
                )
            elif any(old.get(name) != value for name, value in fields.items()):
                if any(old.get(name) != fields[name] for name in RIGHTS):
                    # He has other roles, or they were changed: those that are stored are not believed any more.
                    fields["roles_at"] = None
                changes.append(pymongo.UpdateOne({"_id": old["_id"]}, {"$set": fields}))
        changes += [
            pymongo.UpdateOne({"_id": row["_id"]}, {"$set": LEFT | {"left_at": now}})
            for row in before.values()
            if row.get("left_at") is None
        ]
        await database.insert_new(self._memberships, new)
        with database.translated():
            if changes:
                await self._memberships.bulk_write(changes, ordered=False)
            # No upsert: who was erased meanwhile must not come back by this.
            await self._users.update_one({"_id": user_id}, {"$set": {"listed_at": now}})

    async def guild_list_time(self, user_id: int) -> float | None:
        """Return when the list was last stored."""
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, {"listed_at": 1})
        return row.get("listed_at") if row else None

    async def memberships(self, user_id: int) -> list[model.Membership]:
        """Return the user's present memberships."""
        with database.translated():
            rows = await self._memberships.find({"user_id": user_id, "left_at": None}).to_list(None)
        return [_membership(row) for row in rows]

    async def store_roles(self, user_id: int, guild_id: int, roles: tuple[int, ...], now: float) -> None:
        """Store the user's role ids in a guild, unless he has left meanwhile: they must not come back with him."""
        change = {"$set": {"role_ids": list(roles), "roles_at": now}}
        with database.translated():
            await self._memberships.update_one({"_id": _key(user_id, guild_id), "left_at": None}, change)

    async def mark_left(self, user_id: int, guild_id: int, now: float) -> None:
        """Note that the user is not a member (any more)."""
        change = {"$set": LEFT | {"left_at": now}}
        with database.translated():
            await self._memberships.update_one({"_id": _key(user_id, guild_id)}, change)

    async def mark_viewed(self, user_id: int, guild_id: int, now: float) -> None:
        """Note that the user looks at one of his guilds."""
        seldom = {"looked_at": {"$not": {"$gt": now - LOOK_STEP}}}
        with database.translated():
            await self._memberships.update_one(
                {"_id": _key(user_id, guild_id), "left_at": None, **seldom}, {"$set": {"looked_at": now}}
            )

    async def purge(self, before: float) -> int:
        """Erase memberships that ended before a time; returns how many."""
        with database.translated():
            done = await self._memberships.delete_many({"left_at": {"$gt": 0.0, "$lt": before}})
        return int(done.deleted_count)


def _membership(row: database.Document) -> model.Membership:
    roles = row.get("role_ids")
    return model.Membership(
        user_id=row["user_id"],
        guild_id=row["guild_id"],
        owner=row.get("owner", False),
        permissions=row.get("permissions", 0),
        role_ids=None if roles is None else tuple(roles),
        roles_at=row.get("roles_at"),
        last_viewed_at=row.get("looked_at"),
    )
