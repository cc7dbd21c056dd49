"""Fakes of the ports that store and renew token pairs; tests/contract compares the first with the real adapter."""

import asyncio
import collections
import dataclasses
import uuid
from collections.abc import Awaitable, Callable

from indexing import errors
from indexing.domain import ports
from tests import fakes

LIFE = 604_800.0
"""Seconds for which a renewed pair is valid."""


class MemoryCredentials:
    """
    Port `ports.Credentials`, over the same storage as the users'.

    Attributes:
        failures: Number of next attempts to store a new pair that fail as in an outage.
    """

    def __init__(self, users: fakes.MemoryUsers) -> None:
        self.failures = 0
        self._users = users

    async def get(self, user_id: int) -> ports.StoredCredential:
        """Return what is stored."""
        users = self._users
        if user_id not in users._credentials:
            raise errors.CredentialMissing(user_id)
        return ports.StoredCredential(
            users._credentials[user_id],
            users.credential_versions[user_id],
            users.locks.get(user_id, 0.0),
            user_id in users._refused,
            users.doubts.get(user_id, 0.0),
        )

    async def lock(self, user_id: int, *, version: str | None, now: float, until: float) -> str | None:
        """Lock the pair, if it is free and unchanged."""
        if not self._unchanged(user_id, version) or self._users.locks.get(user_id, 0.0) > now:
            return None
        self._users.locks[user_id] = until
        self._users.credential_versions[user_id] = locked = uuid.uuid4().hex
        return locked

    async def unlock(self, user_id: int, *, version: str, until: float = 0.0) -> None:
        """Unlock the pair, if it is unchanged."""
        if self._unchanged(user_id, version):
            self._users.locks[user_id] = until

    async def store_renewed(self, user_id: int, *, version: str, credential: ports.Credential) -> bool:
        """Replace the pair, if it is unchanged."""
        if self.failures:
            self.failures -= 1
            raise errors.StoreUnavailable("played")
        if not self._unchanged(user_id, version):
            return False
        await self._users.put_credential(user_id, credential)
        return True

    async def mark_doubted(self, user_id: int, *, version: str | None, at: float) -> None:
        """Note the doubt, if the pair is unchanged."""
        if self._unchanged(user_id, version):
            self._users.doubts[user_id] = at

    async def mark_refused(self, user_id: int, *, version: str | None) -> bool:
        """Mark the pair as refused, if it is unchanged."""
        if not self._unchanged(user_id, version):
            return False
        self._users._refused.add(user_id)
        self._users.locks.pop(user_id, None)
        return True

    async def delete(self, user_id: int) -> ports.Credential | None:
        """Erase it."""
        self._users.credential_versions[user_id] = uuid.uuid4().hex
        self._users._refused.discard(user_id)
        self._users.locks.pop(user_id, None)
        self._users.doubts.pop(user_id, None)
        return self._users._credentials.pop(user_id, None)

    def _unchanged(self, user_id: int, version: str | None) -> bool:
        return user_id in self._users._credentials and self._users.credential_versions[user_id] == version


class FakeOAuth:
    """
    Port `ports.OAuth`: every refresh token works once, and a renewed one has a "+" more.

    Attributes:
        renewals: Refresh tokens that were traded, in order.
        revoked: Pairs that were revoked.
        latency: Seconds that each response takes.
        before_answer: Called while a response is in flight.
    """

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self.max_call_time = 10.0
        self.latency = 0.0
        self.renewals: list[str] = []
        self._used: set[str] = set()
        self.revoked: list[ports.Credential] = []
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

    async def _answer(self) -> None:
        await asyncio.sleep(self.latency)
        if self.before_answer is not None:
            await self.before_answer()
        if self._faults:
            raise self._faults.popleft()
