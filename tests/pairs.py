"""Fakes of the ports that hold and renew users' token pairs; tests/contract holds the first to the real adapter."""

import asyncio
import collections
import dataclasses
import uuid
from collections.abc import Awaitable, Callable

from indexing import errors
from indexing.domain import ports
from tests import fakes

LIFE = 604_800.0
"""Seconds that a renewed pair lives."""


class MemoryCredentials:
    """
    Port `ports.Credentials`, over the same storage as the users'.

    Attributes:
        failures: So many of the next attempts to store a new pair fail as if the store were away.
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
            users.marks[user_id],
            users.locks.get(user_id, 0.0),
            user_id in users._refused,
        )

    async def lock(self, user_id: int, *, version: str | None, now: float, until: float) -> str | None:
        """Lock it, if it is free and as it was."""
        if not self._same(user_id, version) or self._users.locks.get(user_id, 0.0) > now:
            return None
        self._users.locks[user_id] = until
        self._users.marks[user_id] = ours = uuid.uuid4().hex
        return ours

    async def unlock(self, user_id: int, *, version: str, until: float = 0.0) -> None:
        """Free it, if it is as it was."""
        if self._same(user_id, version):
            self._users.locks[user_id] = until

    async def store_renewed(self, user_id: int, *, version: str, credential: ports.Credential) -> bool:
        """Replace the pair, if it is as it was."""
        if self.failures:
            self.failures -= 1
            raise errors.StoreUnavailable("played")
        if not self._same(user_id, version):
            return False
        await self._users.put_credential(user_id, credential)
        return True

    async def mark_refused(self, user_id: int, *, version: str | None) -> bool:
        """Note the refusal, if it is as it was."""
        if not self._same(user_id, version):
            return False
        self._users._refused.add(user_id)
        self._users.locks.pop(user_id, None)
        return True

    async def delete(self, user_id: int) -> ports.Credential | None:
        """Erase it."""
        self._users.marks[user_id] = uuid.uuid4().hex
        self._users._refused.discard(user_id)
        self._users.locks.pop(user_id, None)
        return self._users._credentials.pop(user_id, None)

    def _same(self, user_id: int, version: str | None) -> bool:
        return user_id in self._users._credentials and self._users.marks[user_id] == version


class FakeOAuth:
    """
    Port `ports.OAuth`: every refresh token works once, and what it brings is counted on.

    Attributes:
        renewals: Refresh tokens that were traded, in order.
        revoked: Pairs that were revoked.
        latency: Seconds that each answer takes.
        before_answer: What happens elsewhere while an answer is on its way.
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
        """Note it."""
        await self._answer()
        self.revoked.append(credential)

    async def _answer(self) -> None:
        await asyncio.sleep(self.latency)
        if self.before_answer is not None:
            await self.before_answer()
        if self._faults:
            raise self._faults.popleft()
