"""Users' OAuth2 token pairs, what Discord says about them, and the port of their storage."""

import dataclasses
from typing import Protocol

MEMBER_SCOPE = "guilds.members.read"
"""OAuth2 scope that lets a user's own token read their roles."""


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """
    A user's OAuth2 pair in the clear; its repr shows no token.

    Attributes:
        brought_by: Caller that put the pair, which its refused calls are counted for; empty for an unnamed one.
    """

    access_token: str = dataclasses.field(repr=False)
    refresh_token: str = dataclasses.field(repr=False)
    expires_at: float | None
    scopes: tuple[str, ...]
    brought_by: str = ""

    def without_member_scope(self) -> "Credential":
        """Return the pair without the scope for roles, so that the bot's token is used for them."""
        return dataclasses.replace(self, scopes=tuple(scope for scope in self.scopes if scope != MEMBER_SCOPE))


REJECTED = Credential("", "", None, ())
"""What is left of a pair that was erased because it was not the user's; it is always refused."""


@dataclasses.dataclass(frozen=True, slots=True)
class Authorization:
    """
    What Discord says about an access token.

    Attributes:
        user_id: The token's user; None when it lacks the scope `identify`.
        ours: Whether it was issued to our application; True as well when that cannot be told: DISCORD_CLIENT_ID is not
            set, or Discord names the user only.
        expires_at: When it expires; None when Discord does not say.
    """

    user_id: int | None
    ours: bool
    scopes: tuple[str, ...]
    expires_at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class StoredCredential:
    """
    A user's credential as it is stored.

    Attributes:
        version: Changes with every write and every lock; None in rows of an older release.
        locked_until: When the renewal lock of one process expires; 0 when it is not locked.
        refused: Whether only the user can renew it.
        doubted_at: When Discord first refused this access token with a 401; 0 if it never did or has accepted it since.
        doubts: Number of changes of `doubted_at`.
        proven: Whether Discord has confirmed that the pair is the user's.
        has_newer: Whether a newer pair that is not refused is stored beside it, in `ports.Dependencies.unproven`.
    """

    credential: Credential
    version: str | None
    locked_until: float
    refused: bool
    doubted_at: float = 0.0
    doubts: int = 0
    proven: bool = False
    has_newer: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PairVersions:
    """
    What is stored of a user's pairs at one moment; a write that is decided then changes nothing once this has changed.

    Attributes:
        in_use, unproven: Version of each pair; None when there is none, or it has none.
        erasure: The latest erasure of the user's data; None without one.
        known: Whether the user has a document.
        gone: Whether the document holds nothing but the erasure.
    """

    in_use: str | None = None
    unproven: str | None = None
    erasure: int | None = None
    known: bool = False
    gone: bool = False


class Credentials(Protocol):
    """
    Users' credentials, renewed and revoked under compare-and-set: a write with an old version changes nothing.

    A user has at most two pairs: the one in use, and a newer one that is not proven yet. Each kind has a port of its
    own, see `ports.Dependencies`.
    """

    async def get(self, user_id: int) -> StoredCredential:
        """
        Return what is stored.

        Raises:
            errors.CredentialMissing: Nothing is.
            errors.ReauthRequired: No key opens it.
        """

    async def lock(self, user_id: int, *, version: str | None, now: float, until: float) -> str | None:
        """Lock the pair for renewal; returns the new version, None when it is locked or has changed."""

    async def unlock(self, user_id: int, *, version: str, until: float = 0.0) -> None:
        """Unlock the unchanged pair; it is not renewed before *until*."""

    async def store_renewed(self, user_id: int, *, version: str, credential: Credential, proven: bool) -> bool:
        """
        Store a new pair and end the lock; returns False and changes nothing when the lock is lost.

        *proven* says whether the traded pair was: a renewed pair belongs to the same grant.
        """

    async def mark_proven(self, user_id: int, *, version: str | None, credential: Credential) -> bool:
        """
        Make this pair the proven one in use, with the scopes and expiry of *credential*; what is stored is shown again.

        Returns False and changes nothing when the pair of *version* has changed.
        """

    async def reject(self, user_id: int, *, version: str | None) -> bool:
        """
        Erase a pair that is not the user's; only the user can replace it. Returns False when it has changed.

        Nothing is shown to the user any more if it was the pair in use.
        """

    async def mark_doubted(self, user_id: int, *, version: str | None, doubts: int, at: float) -> None:
        """
        Note when Discord refused the access token, 0 to forget it.

        Changes nothing when the pair or its number of `doubts` has changed.
        """

    async def mark_refused(self, user_id: int, *, version: str | None, shown_until: float) -> bool:
        """
        Mark the pair as renewable by the user only; returns False and changes nothing when it has changed.

        After *shown_until*, an epoch second, nothing is shown to the user if the pair is the one in use.
        """

    async def delete(self, user_id: int, *, shown_until: float) -> Credential | None:
        """
        Erase the pair in use and the newer one; returns the first that can be opened, None when there is none.

        After *shown_until*, an epoch second, nothing is shown to the user.
        """
