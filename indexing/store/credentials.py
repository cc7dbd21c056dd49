"""
Credentials in MongoDB, for those who renew, revoke and seal them anew: fields of the user's row.

Whoever changes the pair, or locks it to renew it, gives the row a new random mark, and writes only over the mark that
it knows. So a process that was stopped for longer than its lock, or whose user logged in again or was erased meanwhile,
changes nothing.

Credentials at rest: AES-256-GCM with a random nonce, a key ring, and the user's id bound as associated data.

A stored value is the first 4 bytes of the key's SHA-256 (which key), 12 bytes of nonce, then the sealed text. Moved to
another user's row it does not open.
"""

import hashlib
import os
import uuid

import msgspec
import pymongo
from cryptography import exceptions
from cryptography.hazmat.primitives.ciphers import aead

from indexing import errors
from indexing.domain import ports
from indexing.store import database

ID_BYTES = 4
NONCE_BYTES = 12


class CannotOpen(Exception):
    """The value was sealed by a key that is not in the ring, belongs to another user, or was changed."""


class Vault:
    """Seals and opens values; the first key seals, all open."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._ring = {hashlib.sha256(key).digest()[:ID_BYTES]: aead.AESGCM(key) for key in keys}
        self._first = hashlib.sha256(keys[0]).digest()[:ID_BYTES]

    def seal(self, user_id: int, text: bytes) -> bytes:
        """Return *text* sealed for this user."""
        nonce = os.urandom(NONCE_BYTES)
        return self._first + nonce + self._ring[self._first].encrypt(nonce, text, str(user_id).encode())

    def is_newest(self, sealed: bytes) -> bool:
        """Return whether the first key sealed a value."""
        return sealed[:ID_BYTES] == self._first

    def open(self, user_id: int, sealed: bytes) -> bytes:
        """Return the text. Raises CannotOpen."""
        key = self._ring.get(sealed[:ID_BYTES])
        if key is None:
            raise CannotOpen
        nonce, rest = sealed[ID_BYTES : ID_BYTES + NONCE_BYTES], sealed[ID_BYTES + NONCE_BYTES :]
        try:
            return key.decrypt(nonce, rest, str(user_id).encode())
        except (exceptions.InvalidTag, ValueError) as error:
            raise CannotOpen from error


FIELDS = {"credential": 1, "scopes": 1, "expires_at": 1, "reauth": 1, "mark": 1, "locked_until": 1, "doubted_at": 1}


def sealed(safe: Vault, user_id: int, credential: ports.Credential) -> database.Document:
    """Return the fields that store a credential under a new mark, unlocked."""
    tokens = msgspec.json.encode([credential.access_token, credential.refresh_token])
    return {
        "credential": safe.seal(user_id, tokens),
        "scopes": list(credential.scopes),
        "expires_at": credential.expires_at,
        "reauth": False,
        "mark": uuid.uuid4().hex,
        "locked_until": 0.0,
        "doubted_at": 0.0,
    }


def opened(safe: Vault, user_id: int, row: database.Document) -> ports.Credential:
    """Return the credential of a row. Raises vault.CannotOpen."""
    access, refresh = msgspec.json.decode(safe.open(user_id, row["credential"]), type=tuple[str, str])
    return ports.Credential(access, refresh, row.get("expires_at"), tuple(row.get("scopes", ())))


class Credentials:
    """Port `ports.Credentials`. One round trip for each method."""

    def __init__(self, database: database.Database, safe: Vault) -> None:
        self._users = database["users"]
        self._safe = safe

    async def get(self, user_id: int) -> ports.StoredCredential:
        """Return what is stored. Raises errors.CredentialMissing; errors.ReauthRequired when no key opens it."""
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, FIELDS)
        if not row or not row.get("credential"):
            raise errors.CredentialMissing(user_id)
        try:
            pair = opened(self._safe, user_id, row)
        except CannotOpen as error:
            raise errors.ReauthRequired(user_id) from error
        locked_until, doubted_at = row.get("locked_until", 0.0), row.get("doubted_at", 0.0)
        return ports.StoredCredential(pair, row.get("mark"), locked_until, row.get("reauth", False), doubted_at)

    async def lock(self, user_id: int, *, version: str | None, now: float, until: float) -> str | None:
        """Take the right to renew the pair alone; None when somebody has it or the pair has changed."""
        ours = uuid.uuid4().hex
        free = {"locked_until": {"$not": {"$gt": now}}}
        wanted = {"_id": user_id, "mark": version, "credential": {"$ne": None}, **free}
        return ours if await self._changed(wanted, {"mark": ours, "locked_until": until}) else None

    async def unlock(self, user_id: int, *, version: str, until: float = 0.0) -> None:
        """Leave the pair as it is; it is not renewed before *until*."""
        await self._changed({"_id": user_id, "mark": version}, {"locked_until": until})

    async def store_renewed(self, user_id: int, *, version: str, credential: ports.Credential) -> bool:
        """Store a new pair and end the lock; False when the lock is lost."""
        return await self._changed({"_id": user_id, "mark": version}, sealed(self._safe, user_id, credential))

    async def mark_doubted(self, user_id: int, *, version: str | None, at: float) -> None:
        """Note when Discord refused the access token; changes nothing when the pair has changed."""
        await self._changed({"_id": user_id, "mark": version}, {"doubted_at": at})

    async def mark_refused(self, user_id: int, *, version: str | None) -> bool:
        """Note that only the user can renew the pair; False when it has changed."""
        return await self._changed({"_id": user_id, "mark": version}, {"reauth": True, "locked_until": 0.0})

    async def delete(self, user_id: int) -> ports.Credential | None:
        """Erase the pair, in one write; returns what it was."""
        gone = {"credential": "", "scopes": "", "expires_at": "", "reauth": "", "locked_until": "", "doubted_at": ""}
        with database.translated():
            row = await self._users.find_one_and_update(
                {"_id": user_id},
                {"$unset": gone, "$set": {"mark": uuid.uuid4().hex}},
                projection=FIELDS,
                return_document=pymongo.ReturnDocument.BEFORE,
            )
        if not row or not row.get("credential"):
            return None
        try:
            return opened(self._safe, user_id, row)
        except CannotOpen:
            return None

    async def _changed(self, wanted: database.Document, change: database.Document) -> bool:
        with database.translated():
            done = await self._users.update_one(wanted, {"$set": change})
        return bool(done.matched_count)
