"""
Put, look at, and revoke a user's credential.

A pair that a caller brings is proven first (prove_token.py). A revoked pair is deleted first and revoked at Discord
second, so that no process uses it whatever fails in between.

Round trips of a put: 1 to Discord, 2 for a refused token, each with 2 to Redis; 4 to MongoDB. For the pair that is in
use already: 2 to MongoDB.
"""

import asyncio
import dataclasses
import enum
import functools
import hashlib
from collections.abc import Awaitable, Callable

from indexing import errors, settings
from indexing.domain import model, ports
from indexing.telemetry import logs, metrics
from indexing.usecases import control_job, prove_token

PROOF_TIMEOUT = 2.0
"""Longest time, in seconds, for which a caller waits for Discord's answer."""
SECOND_PROOF_PAUSE = 1.0
"""Seconds until a token that Discord refuses is asked for once more: Discord refuses good tokens for a moment."""
REFUSED_FOR = 600.0
"""Seconds for which a refused token is remembered: each 401 counts towards the invalid-request limit of the fleet."""
MOST_REFUSED = 10_000
"""Refused tokens that a process remembers; beyond that it forgets all of them."""

LONGEST_PUT = 5.0
"""Seconds after which a put stores nothing over a pair that was stored since it began."""
AGAIN = 0.2
"""Seconds after which a caller repeats a write that lost against another one."""
CREDENTIAL_REVOKED = "CREDENTIAL_REVOKED"
"""Reason of a job that ended with the revocation of its user's credential."""
REVOKE_PERMIT_WAIT = 1.0
"""Longest wait for the permit of a revocation, in seconds."""
REVOKE_TIMEOUT = 5.0
"""Longest time for the revocation at Discord, in seconds."""


class CredentialState(enum.StrEnum):
    """Whether a credential can be used."""

    MISSING = "MISSING"
    ACTIVE = "ACTIVE"
    UNVERIFIED = "UNVERIFIED"
    REAUTH_REQUIRED = "REAUTH_REQUIRED"


@dataclasses.dataclass(frozen=True, slots=True)
class CredentialStatus:
    """The status of a credential, without its tokens."""

    state: CredentialState
    scopes: tuple[str, ...] = ()
    expires_at: float | None = None


async def _status_of(pairs: ports.Credentials, user_id: int) -> CredentialStatus:
    try:
        held = await pairs.get(user_id)
    except errors.CredentialMissing:
        return CredentialStatus(CredentialState.MISSING)
    except errors.ReauthRequired:
        return CredentialStatus(CredentialState.REAUTH_REQUIRED)
    state = CredentialState.ACTIVE if held.proven else CredentialState.UNVERIFIED
    if held.refused:
        state = CredentialState.REAUTH_REQUIRED
    return CredentialStatus(state, held.credential.scopes, held.credential.expires_at)


class CredentialControl:
    """Stores the pairs that callers bring, reports the status of credentials, and revokes them."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        controls: control_job.JobControl,
    ) -> None:
        self._prover = prove_token.TokenProver(deps.oauth, metrics)
        self._deps = deps
        self._config = config
        self._controls = controls
        self._refused: dict[bytes, float] = {}
        self._log = logs.get(__name__)

    async def put(self, user_id: int, pair: ports.Credential) -> bool:
        """
        Store a pair; returns whether it is proven to be the user's.

        Raises:
            errors.CredentialRejected: It is not the user's, or Discord refuses it; nothing is stored.
            errors.CallerStopped: Discord refused too many tokens that the caller brought; nothing is stored.
            errors.CredentialBusy: Other writes of the user's pairs came between for seconds; nothing is stored.
            errors.StoreUnavailable: It may or may not be stored; call again.
        """
        began_at = asyncio.get_running_loop().time()
        over = await self._deps.users.pair_versions(user_id), began_at
        if await self._is_in_use(user_id, pair):
            return True
        key = hashlib.sha256(pair.access_token.encode()).digest()
        if self._was_refused(key):
            raise errors.CredentialRefused
        proven = await self._prove_in_time(user_id, pair, key)
        if proven is None:
            await self._store(user_id, over, functools.partial(self._deps.users.put_unproven, user_id, pair))
            self._log.info("credential_stored", user=user_id, verified=False)
            return False
        await prove_token.drop_unproven_list(self._deps, user_id)
        await self._store(user_id, over, functools.partial(self._deps.users.put_credential, user_id, proven))
        self._log.info("credential_stored", user=user_id, verified=True)
        return True

    async def _store(
        self, user_id: int, over: tuple[ports.PairVersions, float], put: Callable[..., Awaitable[bool]]
    ) -> None:
        """Store a pair over what was stored before; of concurrent calls the last wins, but not one that stood still."""
        known, began_at = over
        while not await put(over=known):
            if asyncio.get_running_loop().time() - began_at > LONGEST_PUT:
                raise errors.CredentialBusy(user_id, AGAIN)
            known = await self._deps.users.pair_versions(user_id)

    async def get_status(self, user_id: int) -> CredentialStatus:
        """Return the status of the user's credential. One to three round trips; raises errors.StoreUnavailable."""
        in_use = await _status_of(self._deps.credentials, user_id)
        if in_use.state in {CredentialState.ACTIVE, CredentialState.UNVERIFIED}:
            return in_use
        newer = await _status_of(self._deps.unproven, user_id)
        if newer.state is not CredentialState.MISSING:
            return newer
        # A turn may have proven it, so that it is in use, after this call looked for it there.
        return await _status_of(self._deps.credentials, user_id)

    async def revoke(self, user_id: int, caller: str = "") -> bool:
        """
        Delete the user's tokens, end their job, and revoke the tokens at Discord for *caller*; returns whether Discord
        did.

        Discord is asked once, for at most REVOKE_TIMEOUT; if that fails, the access token stays valid there until it
        expires. The call is idempotent.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: The tokens may or may not be deleted; call again.
        """
        until = self._deps.clock() + self._config.revoke_grace
        pair = await self._deps.credentials.delete(user_id, shown_until=until)
        revoked, _ = await asyncio.gather(
            self._revoke_at_discord(user_id, pair, caller), self._controls.stop_user_job(user_id, CREDENTIAL_REVOKED)
        )
        self._log.info("credential_revoked", user=user_id, at_discord=revoked)
        return revoked

    async def _revoke_at_discord(self, user_id: int, pair: ports.Credential | None, caller: str) -> bool:
        if pair is None or not self._deps.oauth.enabled:
            return False
        try:
            async with asyncio.timeout(REVOKE_TIMEOUT):
                callers = (caller,) if caller else ()
                purpose = ports.Purpose(model.Lane.INTERACTIVE, user_id, "", REVOKE_PERMIT_WAIT, callers)
                await self._deps.oauth.revoke(pair, purpose)
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.warning("not_revoked_at_discord", user=user_id, reason=type(problem).__name__)
            return False
        return True

    async def _is_in_use(self, user_id: int, pair: ports.Credential) -> bool:
        try:
            held = await self._deps.credentials.get(user_id)
        except (errors.CredentialMissing, errors.ReauthRequired):
            return False
        same = (held.credential.access_token, held.credential.refresh_token) == (pair.access_token, pair.refresh_token)
        return same and held.proven and not held.refused

    async def _prove_in_time(self, user_id: int, pair: ports.Credential, key: bytes) -> ports.Credential | None:
        """Return the proven pair, None when Discord cannot be asked now."""
        now = self._deps.clock()
        if pair.expires_at is not None and pair.expires_at <= now and pair.refresh_token:
            # Its access token is refused for certain; the user's next turn renews the pair first.
            return None
        callers = (pair.brought_by,) if pair.brought_by else ()
        purpose = ports.Purpose(model.Lane.INTERACTIVE, user_id, "", PROOF_TIMEOUT, callers)
        try:
            async with asyncio.timeout(PROOF_TIMEOUT):
                try:
                    return await self._prover.prove(user_id, pair, purpose)
                except errors.TokenRefused:
                    await asyncio.sleep(SECOND_PROOF_PAUSE)
                    return await self._prover.prove(user_id, pair, purpose)
        except errors.TokenRefused as refusal:
            self._remember_refused(key)
            raise errors.CredentialRefused from refusal
        except errors.CallerStopped:
            raise
        except errors.CredentialRejected as problem:
            self._log.warning("credential_rejected", user=user_id, reason=problem.reason)
            raise
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.info("credential_not_proven", user=user_id, reason=type(problem).__name__)
            return None

    def _was_refused(self, key: bytes) -> bool:
        return 0 <= self._deps.clock() - self._refused.get(key, float("-inf")) < REFUSED_FOR

    def _remember_refused(self, key: bytes) -> None:
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        self._refused[key] = self._deps.clock()
