"""
Users in MongoDB, one document each: the sealed credential, preferences, rights in their guilds, and role ids.

Only guild lists write `rights`: one msgpack value `[[guild_id, owner, permissions], ...]`. Fields that change for a
single guild are flat maps from a guild's id to one value: `role_ids` (packed, see `id_sets.pack_ids`), `roles_at`,
`roles_changed_at`, `looked_at`. A map of sub-documents makes writing role ids cost four times as much (decision 25).

`rosters` is the reverse index, from a guild to its known users: one document a user, written only when the set of their
guilds changes. It grows before the user's document, and shrinks after it unless it has grown again meanwhile, so it may
name too many users of a guild, and never too few.

| what | round trips |
|---|---|
| everything about a user (`load`) | 1 |
| a credential, preferences | 2 |
| a guild list | 1, 2 when guilds were added, 3 when some were left; 2 more when one was left meanwhile |
| a role response | 1, 3 when the user has left |
"""

import contextlib
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
import pymongo.errors

from indexing import errors
from indexing.domain import id_sets, model, ports
from indexing.store import credentials, database, tombstones, writer

MOST_FORMER = 500
"""Most guilds that a roster keeps after the user left them; the latest are kept."""
CONFIRM_STEP = 300.0
"""Seconds after which unchanged roles still make a new version, so that readers see their age."""
VIEW_STEP = 300.0
"""Least seconds between two recorded views of a guild by a user."""
INDEX = {
    "version": 1,
    "listed_at": 1,
    "schema": 1,
    "rights": 1,
    "role_ids": 1,
    "roles_at": 1,
    "roles_changed_at": 1,
    "looked_at": 1,
    "pinned": 1,
    "muted": 1,
    "list_proven_at": 1,
    "shown_until": 1,
    "reauth": 1,
    "scopes": 1,
    "mark": 1,
    "erased": 1,
}
"""Projection of everything except the credential."""
SCHEMA = 1
"""Number of the format of `rights`. A list of a newer one counts as none, and none of this one replaces it."""
MOST_TRIES = 5
"""Attempts to replace the preferences, each of which lost a race against another write of them."""
CHANGED_AT = "roles_changed_at."
PER_GUILD = ("role_ids", "roles_at", "roles_changed_at", "looked_at")
"""Maps from a guild's id to one value."""
_ENCODER = msgspec.msgpack.Encoder(enc_hook=int)
_RIGHTS = msgspec.msgpack.Decoder(list[tuple[int, bool, int]])


class Users:
    """Port `ports.Users`. Round trips: one for each method, two for a write, up to three for `replace_guild_list`."""

    def __init__(
        self,
        db: database.Database,
        safe: credentials.Vault,
        *,
        observe: Callable[[float], None] = lambda _: None,
        announce: writer.Announce = lambda _: None,
    ) -> None:
        self._users = db["users"]
        self._rosters = db["rosters"]
        self._safe = safe
        self._announce = announce
        self._writer = writer.Writer(self._users, observe=observe, announce=announce)

    async def pair_versions(self, user_id: int) -> ports.PairVersions:
        """Return what is stored of the user's pairs."""
        with database.translated():
            return credentials.versions_of(await self._users.find_one({"_id": user_id}, credentials.VERSIONS))

    async def put_credential(
        self, user_id: int, credential: ports.Credential, *, over: ports.PairVersions | None = None
    ) -> bool:
        """Store the credential, encrypted, in place of any older one; False when another write came between."""
        fields = credentials.sealed(self._safe, user_id, credential, proven=True)
        return await self._put(user_id, {"$set": fields} | credentials.shown_again(), over)

    async def put_unproven(
        self, user_id: int, credential: ports.Credential, *, over: ports.PairVersions | None = None
    ) -> bool:
        """Store a credential that is not proven, encrypted, beside the one in use; False as for `put_credential`."""
        fields = credentials.sealed(self._safe, user_id, credential, proven=False)
        return await self._put(user_id, {"$set": {credentials.UNPROVEN: fields}}, over)

    async def _put(self, user_id: int, update: database.Document, over: ports.PairVersions | None) -> bool:
        known = await self.pair_versions(user_id) if over is None else over
        if not known.known:
            return await self._insert(user_id, update["$set"])
        if known.gone:
            update = {**update, "$inc": {"version": 1}, "$unset": update.get("$unset", {}) | tombstones.RETURNED}
        with database.translated():
            done = await self._users.update_one(credentials.as_known(user_id, known), update)
        self._announce([user_id])
        return bool(done.matched_count)

    async def _insert(self, user_id: int, fields: database.Document) -> bool:
        """Store a new user; returns False when there is a document, if only of an erasure."""
        try:
            with database.translated():
                await self._users.insert_one({"_id": user_id, "version": database.first_version(), **fields})
        except pymongo.errors.DuplicateKeyError:
            return False
        self._announce([user_id])
        return True

    async def credential(self, user_id: int) -> ports.Credential:
        """Return the newest usable credential. Raises errors.CredentialMissing or errors.ReauthRequired."""
        fields = ("credential", "scopes", "expires_at", "reauth", credentials.UNPROVEN)
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, fields) or {}
        pairs = [pair for pair in (row.get(credentials.UNPROVEN), row) if pair]
        for pair in pairs:
            if pair.get("credential") and not pair.get("reauth"):
                with contextlib.suppress(credentials.CannotOpen):
                    return credentials.opened(self._safe, user_id, pair)
        if any(pair.get("credential") or pair.get("reauth") for pair in pairs):
            raise errors.ReauthRequired(user_id)
        raise errors.CredentialMissing(user_id)

    async def exists(self, user_id: int) -> bool:
        """Return whether anything is stored of the user."""
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, tombstones.FIELDS)
        return row is not None and not tombstones.is_tombstone(row)

    async def load(self, user_id: int) -> model.User | None:
        """Return everything stored of the user except the credential; None when nothing is stored."""
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, INDEX)
        return user_of(row) if row and not tombstones.is_tombstone(row) else None

    async def versions(self, user_ids: Collection[int]) -> dict[int, int]:
        """Return the versions of the stored users."""
        rows = await database.find_small(self._users, user_ids, tombstones.FIELDS)
        return {row["_id"]: row.get("version", 0) for row in rows if not tombstones.is_tombstone(row)}

    async def put_preferences(
        self, user_id: int, preferences: model.Preferences, fields: Collection[str] = ("pinned", "muted")
    ) -> None:
        """Replace these fields of the user's preferences."""
        change = {field: list(getattr(preferences, field)) for field in fields}
        for _ in range(MOST_TRIES):
            with database.translated():
                row = await self._users.find_one({"_id": user_id}, {**tombstones.FIELDS, "preferred": 1})
            if row is None:
                if await self._insert(user_id, change):
                    return
                continue
            as_read = {"_id": user_id, "erased": row.get("erased"), "preferred": row.get("preferred")}
            update = {"$set": change, "$inc": {"version": 1, "preferred": 1}, "$unset": tombstones.RETURNED}
            with database.translated():
                done = await self._users.update_one(as_read, update)
            if done.matched_count:
                self._announce([user_id])
                return
        raise errors.StoreUnavailable("the user's preferences change too fast; try again")

    async def replace_guild_list(self, known: model.User, guilds: Sequence[model.UserGuild], asked_at: float) -> bool:
        """Store the user's complete guild list; returns False and changes nothing if another was stored since."""
        listed = {guild.guild_id for guild in guilds}
        mark = b""
        if listed != known.memberships.keys():
            found = await self._grow_roster(known, listed | known.memberships.keys())
            if found is None:
                return False
            mark = found
        if not await self._replace_list(known, guilds, asked_at):
            return False
        self._announce([known.user_id])
        if former := known.memberships.keys() - listed:
            await self._shrink_roster(known.user_id, former, mark)
        return True

    async def _replace_list(self, known: model.User, guilds: Sequence[model.UserGuild], asked_at: float) -> bool:
        """
        Write the list over what was known before; returns False when another list was stored since.

        Other rights make the roles of a guild unknown, but only while the user is in it: a membership that has ended
        since is not restored by a list that was requested before.
        """
        left: set[str] = set()
        while True:
            set_, unset = _list_changes(known, guilds, asked_at)
            for field in left:
                del set_[field]
            changed = [field for field in set_ if field.startswith(CHANGED_AT) and _names_known(field, known)]
            update: database.Document = {"$set": set_, "$inc": {"version": 1}} | ({"$unset": unset} if unset else {})
            # No upsert: the write must not recreate a user who was erased meanwhile.
            wanted = {"_id": known.user_id, "listed_at": known.listed_at, "erased": known.erasure}
            with database.translated():
                done = await self._users.update_one(wanted | {field: {"$ne": None} for field in changed}, update)
                if done.matched_count:
                    return True
                row = await self._users.find_one(wanted, {"roles_changed_at": 1}) if changed else None
            if row is None:
                return False
            present = row.get("roles_changed_at") or {}
            left |= {field for field in changed if present.get(field.removeprefix(CHANGED_AT)) is None}

    async def _grow_roster(self, known: model.User, guild_ids: AbstractSet[int]) -> bytes | None:
        """
        Add guilds to the user's roster; returns a mark, which it has until it grows again.

        None when the user was erased since: the roster must not come back.
        """
        mark = os.urandom(8)
        if known.listed_at is None and known.erasure is None and await self._insert_roster(known, guild_ids, mark):
            return mark
        changed = {"mark": mark} | ({} if known.erasure is None else {"erased": known.erasure})
        update = {"$addToSet": {"guild_ids": {"$each": sorted(guild_ids)}}, "$set": changed}
        try:
            with database.translated():
                await self._rosters.update_one(
                    {"_id": known.user_id, "erased": {"$in": [None, known.erasure]}}, update, upsert=True
                )
        except pymongo.errors.DuplicateKeyError:
            return None
        return mark

    async def _insert_roster(self, known: model.User, guild_ids: AbstractSet[int], mark: bytes) -> bool:
        """Store a first roster, at half the cost of an upsert; False when there is one, if only of an erasure."""
        try:
            with database.translated():
                await self._rosters.insert_one({"_id": known.user_id, "guild_ids": sorted(guild_ids), "mark": mark})
        except pymongo.errors.DuplicateKeyError:
            return False
        return True

    async def _mark_roster(self, user_id: int) -> bytes:
        """Give the roster a new mark, if there is one; returns the mark, which it has until it grows."""
        mark = os.urandom(8)
        with database.translated():
            await self._rosters.update_one({"_id": user_id, "guild_ids": {"$ne": None}}, {"$set": {"mark": mark}})
        return mark

    async def _shrink_roster(self, user_id: int, former: AbstractSet[int], mark: bytes) -> None:
        """
        Remove guilds that the user has left, and keep them separately, for the erasure to check.

        Nothing is removed when the roster has grown since it had *mark*: the user may be back.
        """
        update = {
            "$pull": {"guild_ids": {"$in": sorted(former)}},
            "$push": {"former": {"$each": sorted(former), "$slice": -MOST_FORMER}},
        }
        with database.translated():
            await self._rosters.update_one({"_id": user_id, "mark": mark}, update)

    async def store_roles(self, known: model.Membership, roles: Sequence[int], asked_at: float) -> bool:
        """Store the user's role ids in a guild; returns False when newer data is stored or the user has left."""
        guild = str(known.guild_id)
        packed = id_sets.pack_ids(roles)
        moment = max(asked_at, (known.roles_changed_at or 0.0) + 1e-6)
        set_ = {f"role_ids.{guild}": packed, f"roles_at.{guild}": asked_at, f"roles_changed_at.{guild}": moment}
        update: database.Document = {"$set": set_}
        as_before = known.role_ids is not None and id_sets.pack_ids(known.role_ids) == packed
        if not as_before or asked_at - (known.roles_at or 0.0) >= CONFIRM_STEP:
            update["$inc"] = {"version": 1}
        return await self._writer.update(self._as_known(known), update)

    async def mark_left(self, known: model.Membership) -> bool:
        """End the membership; returns False and changes nothing when newer data is stored."""
        guild = str(known.guild_id)
        unset = {f"{name}.{guild}": "" for name in PER_GUILD}
        update = {"$unset": unset, "$inc": {"version": 1}}
        mark = await self._mark_roster(known.user_id)
        if not await self._writer.update(self._as_known(known), update):
            return False
        await self._shrink_roster(known.user_id, {known.guild_id}, mark)
        return True

    @staticmethod
    def _as_known(known: model.Membership) -> database.Document:
        return {"_id": known.user_id, f"roles_changed_at.{known.guild_id}": known.roles_changed_at}

    async def mark_viewed(self, user_id: int, guild_id: int, now: float) -> None:
        """Record that the user viewed one of their guilds."""
        guild = str(guild_id)
        seldom = {f"looked_at.{guild}": {"$not": {"$gt": now - VIEW_STEP}}}
        present = {f"roles_changed_at.{guild}": {"$ne": None}}
        with database.translated():
            await self._users.update_one({"_id": user_id, **present, **seldom}, {"$set": {f"looked_at.{guild}": now}})


def _list_changes(
    known: model.User, guilds: Sequence[model.UserGuild], asked_at: float
) -> tuple[database.Document, database.Document]:
    """Return the fields that a guild list sets and unsets; changed rights make the roles unknown."""
    rights = sorted((guild.guild_id, guild.owner, guild.permissions) for guild in guilds)
    # The previous release stores a list without the second time: it is not proven to be the user's.
    set_: database.Document = {**rights_fields(rights), "listed_at": asked_at, "list_proven_at": asked_at}
    unset: database.Document = {}
    if known.listed_at is None and not known.memberships:
        # One field in place of one a guild: two thirds of the cost.
        set_["roles_changed_at"] = {str(guild.guild_id): asked_at for guild in guilds}
        return set_, unset
    for guild_id, owner, permissions in rights:
        before = known.memberships.get(guild_id)
        if before is not None and (before.owner, before.permissions) == (owner, permissions):
            continue
        newest = (before.roles_changed_at if before else None) or 0.0
        set_[f"roles_changed_at.{guild_id}"] = max(asked_at, newest + 1e-6)
        if before is not None:
            unset |= {f"role_ids.{guild_id}": "", f"roles_at.{guild_id}": ""}
    for guild_id in known.memberships.keys() - {row[0] for row in rights}:
        unset |= {f"{name}.{guild_id}": "" for name in PER_GUILD}
    return set_, unset


def _names_known(field: str, known: model.User) -> bool:
    return int(field.removeprefix(CHANGED_AT)) in known.memberships


def rights_fields(rights: Sequence[tuple[int, bool, int]]) -> database.Document:
    """Return the fields that hold (guild, owner, permissions), ordered by guild."""
    return {"schema": SCHEMA, "rights": _ENCODER.encode(rights)}


def user_of(row: database.Document) -> model.User:
    """Return the user of a document."""
    user_id = int(row["_id"])
    readable = row.get("schema", SCHEMA) <= SCHEMA
    rights: Any = row.get("rights") if readable else None
    maps: dict[str, Mapping[str, Any]] = {name: row.get(name) or {} for name in PER_GUILD}
    memberships = {}
    for guild_id, owner, permissions in _RIGHTS.decode(rights) if rights else ():
        key = str(guild_id)
        changed_at = maps["roles_changed_at"].get(key)
        if changed_at is None:
            # The user left the guild after the list was fetched.
            continue
        packed = maps["role_ids"].get(key)
        memberships[guild_id] = model.Membership(
            user_id=user_id,
            guild_id=guild_id,
            owner=owner,
            permissions=permissions,
            role_ids=None if packed is None else tuple(id_sets.unpack_ids(packed)),
            roles_at=maps["roles_at"].get(key),
            last_viewed_at=maps["looked_at"].get(key),
            roles_changed_at=changed_at,
        )
    return model.User(
        user_id=user_id,
        version=row.get("version", 0),
        listed_at=row.get("listed_at") if readable else None,
        memberships=memberships,
        preferences=model.Preferences(tuple(row.get("pinned", ())), tuple(row.get("muted", ()))),
        list_proven=is_list_proven(row),
        shown_until=shown_until(row),
        erasure=row.get("erased"),
    )


def is_list_proven(row: database.Document) -> bool:
    """Return whether the guild list of a user's document was read with a pair that is proven to be the user's."""
    return row.get("list_proven_at") == row.get("listed_at")


def shown_until(row: database.Document) -> float:
    """Return when a user is no longer shown what is stored; a consent that ended in an older release has no time."""
    if "shown_until" in row:
        return float(row["shown_until"])
    # A revoked pair leaves its mark; a user who never had one has nothing to withdraw.
    withdrawn = row.get("reauth", "scopes" not in row and "mark" in row)
    return 0.0 if withdrawn else math.inf
