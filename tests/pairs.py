"""Fakes of the ports that store and renew token pairs; tests/contract compares the first with the real adapter."""

import asyncio
import collections
import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from indexing import errors
from indexing.domain import freshness, ports
from tests import fakes

LIFE = 604_800.0
"""Seconds for which a renewed pair is valid."""


class MemoryCredentials:
    """
    Port `ports.Credentials`, over the same storage as the users'.

    Attributes:
        failures: Number of next attempts to store a new pair that fail as in an outage.
    """

    def __init__(self, users: fakes.MemoryUsers, *, unproven: bool = False) -> None:
        self.failures = 0
        self._users = users
        self._pairs = users.unproven if unproven else users.pairs
        self._in_use = not unproven

    async def get(self, user_id: int) -> ports.StoredCredential:
        """Return what is stored."""
        if user_id not in self._pairs:
            raise errors.CredentialMissing(user_id)
        newer = self._users.unproven.get(user_id) if self._in_use else None
        return dataclasses.replace(self._pairs[user_id], has_newer=newer is not None and not newer.refused)

    async def lock(self, user_id: int, *, version: str | None, now: float, until: float) -> str | None:
        """Lock the pair, if it is free and unchanged."""
        if not self._unchanged(user_id, version) or freshness.is_held(self._pairs[user_id].locked_until, now):
            return None
        locked = uuid.uuid4().hex
        self._change(user_id, locked_until=until, version=locked)
        return locked

    async def unlock(self, user_id: int, *, version: str, until: float = 0.0) -> None:
        """Unlock the pair, if it is unchanged."""
        if self._unchanged(user_id, version):
            self._change(user_id, locked_until=until)

    async def store_renewed(self, user_id: int, *, version: str, credential: ports.Credential, proven: bool) -> bool:
        """Replace the pair, if it is unchanged."""
        if self.failures:
            self.failures -= 1
            raise errors.StoreUnavailable("played")
        if not self._unchanged(user_id, version):
            return False
        self._pairs[user_id] = fakes.stored_pair(credential, proven=proven)
        return True

    async def mark_proven(self, user_id: int, *, version: str | None, credential: ports.Credential) -> bool:
        """Put the pair in use, if it is unchanged."""
        if not self._unchanged(user_id, version):
            return False
        await self._users.put_credential(user_id, credential)
        return True

    async def reject(self, user_id: int, *, version: str | None) -> bool:
        """Erase the pair, if it is unchanged."""
        if not self._unchanged(user_id, version):
            return False
        self._pairs[user_id] = dataclasses.replace(fakes.stored_pair(ports.REJECTED, proven=False), refused=True)
        if self._in_use:
            self._users.end_consent(user_id, 0.0)
        return True

    async def mark_doubted(self, user_id: int, *, version: str | None, doubts: int, at: float) -> None:
        """Mark the pair as suspected, if it is unchanged."""
        if self._unchanged(user_id, version) and self._pairs[user_id].doubts == doubts:
            self._change(user_id, doubted_at=at, doubts=doubts + 1)

    async def mark_refused(self, user_id: int, *, version: str | None, shown_until: float) -> bool:
        """Mark the pair as refused, if it is unchanged."""
        if not self._unchanged(user_id, version):
            return False
        self._change(user_id, refused=True, locked_until=0.0)
        if self._in_use:
            self._users.end_consent(user_id, shown_until)
        return True

    async def delete(self, user_id: int, *, shown_until: float) -> ports.Credential | None:
        """Erase both pairs."""
        self._users.end_consent(user_id, shown_until)
        gone = [pairs.pop(user_id, None) for pairs in (self._users.pairs, self._users.unproven)]
        return next((pair.credential for pair in gone if pair is not None and pair.credential != ports.REJECTED), None)

    def _change(self, user_id: int, **changes: Any) -> None:  # noqa: ANN401 -- any field
        self._pairs[user_id] = dataclasses.replace(self._pairs[user_id], **changes)

    def _unchanged(self, user_id: int, version: str | None) -> bool:
        return user_id in self._pairs and self._pairs[user_id].version == version


class FakeOAuth:
    """
    Port `ports.OAuth`: every refresh token works once, and a renewed one has a "+" more.

    Attributes:
        renewals: Refresh tokens that were traded, in order.
        revoked: Pairs that were revoked.
        latency: Seconds that each response takes.
        before_answer: Called while a response is in flight.
        described: Access tokens that were described, in order.
        authorizations: What Discord says about a token; by default it is the purpose's user's, for our application.
    """

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self.max_call_time = 10.0
        self.latency = 0.0
        self.renewals: list[str] = []
        self._used: set[str] = set()
        self.revoked: list[ports.Credential] = []
        self.described: list[str] = []
        self.authorizations: dict[str, ports.Authorization] = {}
        self.described_for: list[ports.Purpose] = []
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self._faults: collections.deque[Exception] = collections.deque()

    def fail(self, *problems: Exception) -> None:
        """Let the next calls fail, one with each of *problems*."""
        self._faults.extend(problems)

    async def renew(self, credential: ports.Credential, purpose: ports.Purpose, now: float) -> ports.Credential:  # noqa: ARG002 -- the port has it
        """Trade the refresh token."""
        self.renewals.append(credential.refresh_token)
        await self._answer()
        if credential.refresh_token in self._used:
            raise errors.GrantRefused(400, 0)
        self._used.add(credential.refresh_token)
        return dataclasses.replace(
            credential,
            access_token=f"{credential.access_token}+",
            refresh_token=f"{credential.refresh_token}+",
            expires_at=now + LIFE,
        )

    async def revoke(self, credential: ports.Credential, purpose: ports.Purpose) -> None:  # noqa: ARG002 -- the port has it
        """Record the pair."""
        await self._answer()
        self.revoked.append(credential)

    async def describe(self, credential: ports.Credential, purpose: ports.Purpose) -> ports.Authorization:
        """Say whose token it is."""
        self.described.append(credential.access_token)
        self.described_for.append(purpose)
        await self._answer()
        theirs = ports.Authorization(purpose.user_id, True, credential.scopes, credential.expires_at)  # noqa: FBT003
        return self.authorizations.get(credential.access_token, theirs)

    async def _answer(self) -> None:
        await asyncio.sleep(self.latency)
        if self.before_answer is not None:
            await self.before_answer()
        if self._faults:
            raise self._faults.popleft()
