"""
Credentials in MongoDB, to renew, revoke and reseal them: fields of the user's document.

Every change or lock of the pair sets a new random version and is conditional on the version that was read. So a process
that stalled for longer than its lock, or whose user logged in again or was erased meanwhile, changes nothing.

Credentials at rest: AES-256-GCM with a random nonce, a key ring, and the user's id bound as associated data.

A stored value is the first 4 bytes of the key's SHA-256 (which key), 12 bytes of nonce, then the sealed text. Moved to
another user's row it does not open.
"""

import contextlib
import hashlib
import os
import uuid

import msgspec
import pymongo
from cryptography import exceptions
from cryptography.hazmat.primitives.ciphers import aead

from indexing import errors
from indexing.domain import freshness, ports
from indexing.store import database, tombstones, writer

ID_BYTES = 4
NONCE_BYTES = 12
PROOF_BYTES = 16
"""Bytes of the hash that names a proven access token; a token has far more entropy than can be guessed."""


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


FIELDS = (
    "credential",
    "scopes",
    "expires_at",
    "reauth",
    "mark",
    "locked_until",
    "doubted_at",
    "doubts",
    "proof",
    "brought_by",
)
UNPROVEN = "unproven"
"""Sub-document of a pair that is not proven yet, with the same fields as the pair in use."""
VERSIONS = {"mark": 1, f"{UNPROVEN}.mark": 1, **tombstones.FIELDS}
"""Projection of `ports.PairVersions`."""
MOST_DELETES = 5
"""Attempts to delete the pairs, each of which lost a race against another write of them."""
BESIDE = {f"{UNPROVEN}.mark": 1, f"{UNPROVEN}.reauth": 1}
"""Projection of whether there is a newer pair that is not refused."""


def sealed(safe: Vault, user_id: int, credential: ports.Credential, *, proven: bool) -> database.Document:
    """
    Return the fields that store a credential under a new mark, unlocked.

    `proof` names the access token that is proven, because the previous release replaces a pair and leaves the field.
    """
    tokens = msgspec.json.encode([credential.access_token, credential.refresh_token])
    return {
        "credential": safe.seal(user_id, tokens),
        "scopes": list(credential.scopes),
        "expires_at": credential.expires_at,
        "reauth": False,
        "mark": uuid.uuid4().hex,
        "locked_until": 0.0,
        "doubted_at": 0.0,
        "doubts": 0,
        "proof": _proof(credential) if proven else b"",
        "brought_by": credential.brought_by,
    }


def shown_again() -> database.Document:
    """Return the rest of the update that puts a proven pair in use: readers see the user again."""
    return {"$unset": {UNPROVEN: "", "shown_until": "", **tombstones.RETURNED}, "$inc": {"version": 1}}


def versions_of(row: database.Document | None) -> ports.PairVersions:
    """Return what a user's document, which may be missing, says about the pairs."""
    if row is None:
        return ports.PairVersions()
    unproven = (row.get(UNPROVEN) or {}).get("mark")
    return ports.PairVersions(
        row.get("mark"), unproven, row.get("erased"), known=True, gone=tombstones.is_tombstone(row)
    )


def as_known(user_id: int, known: ports.PairVersions) -> database.Document:
    """Return the filter of a user's document whose pairs have not changed since."""
    return {"_id": user_id, "erased": known.erasure, "mark": known.in_use, f"{UNPROVEN}.mark": known.unproven}


def _proof(credential: ports.Credential) -> bytes:
    return hashlib.sha256(credential.access_token.encode()).digest()[:PROOF_BYTES]


def opened(safe: Vault, user_id: int, row: database.Document) -> ports.Credential:
    """Return the credential of a row. Raises vault.CannotOpen."""
    access, refresh = msgspec.json.decode(safe.open(user_id, row["credential"]), type=tuple[str, str])
    scopes, brought_by = tuple(row.get("scopes", ())), row.get("brought_by", "")
    return ports.Credential(access, refresh, row.get("expires_at"), scopes, brought_by)


class Credentials:
    """
    Port `ports.Credentials`. One round trip for each method.

    Args:
        database: The database.
        safe: Seals the pairs.
        slot: Name of the sub-document of the pair; empty for the pair in use.
        announce: Called with the id of a user who is shown more or less from now on.
    """

    def __init__(
        self,
        database: database.Database,
        safe: Vault,
        *,
        slot: str = "",
        announce: writer.Announce = lambda _: None,
    ) -> None:
        self._users = database["users"]
        self._safe = safe
        self._slot = slot
        self._announce = announce
        self._prefix = f"{slot}." if slot else ""

    async def get(self, user_id: int) -> ports.StoredCredential:
        """Return what is stored. Raises what the port says."""
        fields = self._paths(dict.fromkeys(FIELDS, 1))
        with database.translated():
            found = await self._users.find_one({"_id": user_id}, fields | BESIDE)
        row = self._row(found)
        if not row.get("credential"):
            if not row.get("reauth"):
                raise errors.CredentialMissing(user_id)
            pair = ports.REJECTED
        else:
            try:
                pair = opened(self._safe, user_id, row)
            except CannotOpen as error:
                raise errors.ReauthRequired(user_id) from error
        newer = (found or {}).get(UNPROVEN) or {}
        return ports.StoredCredential(
            credential=pair,
            version=row.get("mark"),
            locked_until=row.get("locked_until", 0.0),
            refused=row.get("reauth", False),
            doubted_at=row.get("doubted_at", 0.0),
            doubts=row.get("doubts", 0),
            proven=row.get("proof") == _proof(pair),
            has_newer=not self._slot and bool(newer) and not newer.get("reauth"),
        )

    async def lock(self, user_id: int, *, version: str | None, now: float, until: float) -> str | None:
        """Lock the pair for renewal; returns the new version, None when it is locked or has changed."""
        ours = uuid.uuid4().hex
        free = {
            "locked_until": {"$not": {"$gt": now, "$lte": now + freshness.LONGEST_LEASE}},
            "credential": {"$ne": None},
        }
        locked = await self._change(user_id, version, {"mark": ours, "locked_until": until}, only_if=free)
        return ours if locked else None

    async def unlock(self, user_id: int, *, version: str, until: float = 0.0) -> None:
        """Leave the pair as it is; it is not renewed before *until*."""
        await self._change(user_id, version, {"locked_until": until})

    async def store_renewed(self, user_id: int, *, version: str, credential: ports.Credential, proven: bool) -> bool:
        """Store a new pair and end the lock; False when the lock is lost."""
        return await self._change(user_id, version, sealed(self._safe, user_id, credential, proven=proven))

    async def mark_proven(self, user_id: int, *, version: str | None, credential: ports.Credential) -> bool:
        """Make this pair the proven one in use; False when it has changed."""
        change = {"$set": sealed(self._safe, user_id, credential, proven=True)} | shown_again()
        return await self._update(user_id, version, change)

    async def reject(self, user_id: int, *, version: str | None) -> bool:
        """Erase a pair that is not the user's; False when it has changed."""
        fields: database.Document = {"reauth": True, "locked_until": 0.0, "mark": uuid.uuid4().hex}
        unset = ("credential", "scopes", "expires_at", "doubted_at", "proof", "brought_by")
        gone = {"$unset": self._paths(dict.fromkeys(unset, ""))}
        return await self._update(user_id, version, self._end(fields, 0.0) | gone)

    async def mark_doubted(self, user_id: int, *, version: str | None, doubts: int, at: float) -> None:
        """Note when Discord refused the access token; changes nothing when the pair or its doubts have changed."""
        # Not a new version, which would take the lock from the process that renews the pair.
        as_read = {"doubts": doubts or {"$in": [None, 0]}}
        await self._change(user_id, version, {"doubted_at": at, "doubts": doubts + 1}, only_if=as_read)

    async def mark_refused(self, user_id: int, *, version: str | None, shown_until: float) -> bool:
        """Note that only the user can renew the pair; False when it has changed."""
        return await self._update(user_id, version, self._end({"reauth": True, "locked_until": 0.0}, shown_until))

    async def delete(self, user_id: int, *, shown_until: float) -> ports.Credential | None:
        """
        Erase both pairs, in one write; returns what the one in use was, else the other.

        Only the pairs that are stored now: a copy that is delivered late erases no pair of a later login.
        """
        for _ in range(MOST_DELETES):
            with database.translated():
                row = await self._users.find_one({"_id": user_id}, VERSIONS)
            known = versions_of(row)
            if not known.known or known.gone:
                return None
            done, pair = await self._delete(user_id, known, shown_until)
            if done:
                return pair
        raise errors.StoreUnavailable("the user's pairs change too fast to be deleted; try again")

    async def _delete(
        self, user_id: int, known: ports.PairVersions, shown_until: float
    ) -> tuple[bool, ports.Credential | None]:
        gone = (
            "credential",
            "scopes",
            "expires_at",
            "reauth",
            "locked_until",
            "doubted_at",
            "doubts",
            "brought_by",
            UNPROVEN,
        )
        change = _ended({"mark": uuid.uuid4().hex}, shown_until)
        with database.translated():
            row = await self._users.find_one_and_update(
                as_known(user_id, known),
                change | {"$unset": dict.fromkeys(gone, "")},
                projection=[*FIELDS, UNPROVEN],
                return_document=pymongo.ReturnDocument.BEFORE,
            )
        self._announce([user_id])
        for pair in (row or {}, (row or {}).get(UNPROVEN) or {}):
            if pair.get("credential"):
                with contextlib.suppress(CannotOpen):
                    return True, opened(self._safe, user_id, pair)
        return row is not None, None

    async def _change(
        self, user_id: int, version: str | None, fields: database.Document, *, only_if: database.Document | None = None
    ) -> bool:
        return await self._update(user_id, version, {"$set": self._paths(fields)}, only_if=only_if)

    async def _update(
        self, user_id: int, version: str | None, change: database.Document, *, only_if: database.Document | None = None
    ) -> bool:
        """Change the user's document if the pair still has its version; returns whether it had."""
        pair = {"mark": version} if version is not None else {"mark": None, "credential": {"$ne": None}}
        wanted = {"_id": user_id} | self._paths(pair | (only_if or {}))
        with database.translated():
            done = await self._users.update_one(wanted, change)
        if done.matched_count and "$inc" in change:
            self._announce([user_id])
        return bool(done.matched_count)

    def _end(self, fields: database.Document, shown_until: float) -> database.Document:
        """Return the update that ends the use of the pair; only the one in use says what is shown."""
        return {"$set": self._paths(fields)} if self._slot else _ended(fields, shown_until)

    def _row(self, found: database.Document | None) -> database.Document:
        """Return the fields of the pair in a user's document."""
        row = found or {}
        return (row.get(self._slot) or {}) if self._slot else row

    def _paths(self, fields: database.Document) -> database.Document:
        return {f"{self._prefix}{name}": value for name, value in fields.items()}


def _ended(fields: database.Document, shown_until: float) -> database.Document:
    """Return the update with which the consent to what is in use ends: readers see the user until *shown_until*."""
    return {"$set": fields, "$min": {"shown_until": shown_until}, "$inc": {"version": 1}}
