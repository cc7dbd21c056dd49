"""A user's consent as callers see it: whether it can be used, and taking it back."""

import asyncio
import dataclasses
import enum

from indexing import errors
from indexing.domain import model, ports
from indexing.telemetry import logs
from indexing.usecases import control_job

REVOKED = "CREDENTIAL_REVOKED"
"""Why the user's work ended when his consent was taken back."""
PATIENCE = 1.0
"""Longest wait for the permit to tell Discord, in seconds."""
WITHIN = 5.0
"""Longest time for telling Discord, in seconds."""


class State(enum.StrEnum):
    """Whether a credential can be used."""

    MISSING = "MISSING"
    ACTIVE = "ACTIVE"
    REAUTH_REQUIRED = "REAUTH_REQUIRED"


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What may be told of a credential; nothing of its tokens."""

    state: State
    scopes: tuple[str, ...] = ()
    expires_at: float | None = None


class Consent:
    """Looks at credentials and revokes them."""

    def __init__(self, world: ports.World, controls: control_job.Control) -> None:
        self._world = world
        self._controls = controls
        self._log = logs.get(__name__)

    async def status(self, user_id: int) -> Status:
        """Return how the user's credential stands. One round trip; raises errors.StoreUnavailable."""
        try:
            held = await self._world.credentials.held(user_id)
        except errors.CredentialMissing:
            return Status(State.MISSING)
        except errors.ReauthRequired:
            return Status(State.REAUTH_REQUIRED)
        state = State.REAUTH_REQUIRED if held.refused else State.ACTIVE
        return Status(state, held.credential.scopes, held.credential.expires_at)

    async def revoke(self, user_id: int) -> bool:
        """
        Forget the user's tokens, end his work, and ask Discord to revoke them; returns whether Discord has.

        They are forgotten first: whatever fails then, they are not used any more. Discord is asked once and not for
        long; when it does not answer, the access token lives there until it ends by itself. Calling again is safe.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: The tokens may be forgotten or not; call again.
        """
        pair = await self._world.credentials.forget(user_id)
        told, _ = await asyncio.gather(self._tell(user_id, pair), self._controls.stop(user_id, REVOKED))
        self._log.info("credential_revoked", user=user_id, at_discord=told)
        return told

    async def _tell(self, user_id: int, pair: ports.Credential | None) -> bool:
        if pair is None or not self._world.oauth.able:
            return False
        try:
            async with asyncio.timeout(WITHIN):
                purpose = ports.Purpose(model.Lane.INTERACTIVE, user_id, "", PATIENCE)
                await self._world.oauth.revoke(pair, purpose)
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.warning("not_revoked_at_discord", user=user_id, reason=type(problem).__name__)
            return False
        return True
