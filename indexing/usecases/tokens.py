"""
A user's pair of tokens, renewed ahead of its end by one process of all.

Who finds a pair near its end locks it (a write over the mark that he has read), trades its refresh token, and stores
the new pair before anybody uses it, himself included. Everybody else goes on with the old pair while it lives, then
waits a little for the new one.

A refresh token works once, so the moment between Discord's answer and the store is the one that matters. A process that
dies there leaves the old pair under a lock. When the lock is over, the next who needs the pair tries its refresh token
once more: Discord renews it if the call had never arrived, else says that it is dead, and the user must log in again
(REAUTH_REQUIRED). No pair is ever used that is not stored, and no user's work waits longer than the lock.

Round trips while the pair is good: 1 to MongoDB. To renew it: 1 to Discord, 2 to Redis, 2 to MongoDB more.

A user's consent as callers see it: whether it can be used, and taking it back.
"""

import asyncio
import dataclasses
import enum

from indexing import concurrency, errors
from indexing.domain import model, ports
from indexing.telemetry import logs, metrics
from indexing.usecases import control_job

RENEW_AHEAD = 600.0
"""Seconds before its end from which a pair is renewed; Discord's live a week."""
UNUSABLE_BELOW = 15.0
"""Seconds before its end from which a token is not used any more: longer than one call takes."""
RENEWAL_WAIT = 5.0
"""Longest wait for a pair that somebody else renews, in seconds; it takes him about half a second."""
POLL_INTERVAL = 0.2
"""Seconds between two looks whether he is done."""
LOCK_MARGIN = 5.0
"""Seconds that a lock lasts longer than the call: for the permit and the store."""
RETRY_PAUSE = 5.0
"""Seconds without another attempt after one that failed for a passing cause."""
LONG_RETRY_PAUSE = 60.0
"""The same after one for which we are to blame: each counts towards the ban line of the whole fleet."""
STORE_RETRIES = (0.1, 0.3, 0.9)
"""Seconds before each further attempt to store a new pair: without it the user must log in again."""

TRANSIENT_ERRORS = (
    *(errors.RateLimited, errors.LimiterUnavailable, errors.EgressBlocked),
    *(errors.DiscordTransient, errors.DiscordRefused),
)
"""Why a pair could not be renewed although the user's consent stands."""


class TokenManager:
    """Gives pairs that can be used."""

    def __init__(self, deps: ports.Dependencies, metrics: metrics.IndexingMetrics) -> None:
        self._deps = deps
        self._metrics = metrics
        self._log = logs.get(__name__)

    async def get_usable(self, user_id: int, purpose: ports.Purpose) -> ports.Credential:
        """
        Return the user's pair, renewed if it is near its end.

        Raises:
            errors.CredentialMissing, errors.ReauthRequired: There is none, or only the user can renew it.
            errors.CredentialBusy, and what `ports.OAuth` may raise: It is used up, and cannot be renewed now.
        """
        held = await self._load(user_id)
        left = _seconds_left(held, self._deps.clock())
        if left > RENEW_AHEAD or not self._renewable(held):
            return held.credential
        if left > UNUSABLE_BELOW and held.locked_until > self._deps.clock():
            return held.credential
        try:
            return await self._renew(user_id, held, purpose)
        except TRANSIENT_ERRORS as problem:
            if _seconds_left(held, self._deps.clock()) <= UNUSABLE_BELOW:
                raise
            self._log.info("credential_renewal_deferred", user=user_id, reason=problem.reason)
            return held.credential

    async def renew_refused(self, user_id: int, used: ports.Credential, purpose: ports.Purpose) -> ports.Credential:
        """
        Return the pair to use after Discord refused *used*: the stored one if it is another, else a renewed one.

        Raises:
            errors.ReauthRequired: It cannot be renewed; the user must log in again, and all his work stops.
            errors.CredentialMissing, errors.CredentialBusy, and what `ports.OAuth` may raise.
        """
        held = await self._load(user_id)
        if held.credential.access_token != used.access_token:
            return held.credential
        if not self._renewable(held):
            await self._deps.credentials.mark_refused(user_id, version=held.version)
            raise errors.ReauthRequired(user_id)
        return await self._renew(user_id, held, purpose)

    async def mark_refused(self, user_id: int, used: ports.Credential) -> None:
        """Note that Discord refuses a pair that was renewed; one that is stored since then stays."""
        held = await self._load(user_id)
        if held.credential.access_token == used.access_token:
            await self._deps.credentials.mark_refused(user_id, version=held.version)

    async def _load(self, user_id: int) -> ports.StoredCredential:
        try:
            held = await self._deps.credentials.get(user_id)
        except errors.ReauthRequired:
            # Nothing is noted in the row: when the key is back, so is the credential.
            self._log.error("credential_undecryptable", user=user_id)
            raise
        if held.refused:
            raise errors.ReauthRequired(user_id)
        return held

    def _renewable(self, held: ports.StoredCredential) -> bool:
        return self._deps.oauth.enabled and bool(held.credential.refresh_token)

    async def _renew(self, user_id: int, held: ports.StoredCredential, purpose: ports.Purpose) -> ports.Credential:
        """Renew the pair, or wait until somebody else has."""
        until = self._deps.clock() + RENEWAL_WAIT
        before = held.credential
        while held.credential == before:
            now = self._deps.clock()
            version = None
            if held.locked_until <= now:
                lease = self._deps.oauth.max_call_time + purpose.max_wait + LOCK_MARGIN
                version = await self._deps.credentials.lock(user_id, version=held.version, now=now, until=now + lease)
            if version is not None:
                # Shielded: a turn that ends for another reason must not lose the answer on its way.
                return await asyncio.shield(
                    concurrency.spawn_shared(self._renew_locked(user_id, before, version, purpose))
                )
            if now >= until:
                raise errors.CredentialBusy(user_id, min(max(held.locked_until - now, POLL_INTERVAL), RENEWAL_WAIT))
            await asyncio.sleep(POLL_INTERVAL)
            held = await self._load(user_id)
        return held.credential

    async def _renew_locked(
        self, user_id: int, before: ports.Credential, version: str, purpose: ports.Purpose
    ) -> ports.Credential:
        """Trade the refresh token under our lock."""
        now = self._deps.clock
        try:
            pair = await self._deps.oauth.renew(before, purpose, now())
        except errors.GrantRefused as refusal:
            self._metrics.renewals.labels("refused").inc()
            if await self._deps.credentials.mark_refused(user_id, version=version):
                self._log.info("reauth_required", user=user_id)
                raise errors.ReauthRequired(user_id) from refusal
            return (await self._load(user_id)).credential
        except (errors.RateLimited, errors.LimiterUnavailable):
            await self._deps.credentials.unlock(user_id, version=version)
            raise
        except errors.IndexerError as problem:
            ours = isinstance(problem, errors.DiscordRefused)
            self._metrics.renewals.labels("failed").inc()
            self._log.warning("credential_not_renewed", user=user_id, reason=problem.reason)
            await self._deps.credentials.unlock(
                user_id, version=version, until=now() + (LONG_RETRY_PAUSE if ours else RETRY_PAUSE)
            )
            raise
        return await self._store_with_retries(user_id, version, pair)

    async def _store_with_retries(self, user_id: int, version: str, pair: ports.Credential) -> ports.Credential:
        """Store the new pair before it is used; one that came too late is dropped for what is stored instead."""
        for pause in STORE_RETRIES:
            try:
                return await self._store_once(user_id, version, pair)
            except errors.StoreUnavailable:
                await asyncio.sleep(pause)
        try:
            return await self._store_once(user_id, version, pair)
        except errors.StoreUnavailable:
            self._metrics.renewals.labels("lost").inc()
            self._log.exception("renewed_credential_lost", user=user_id)
            raise

    async def _store_once(self, user_id: int, version: str, pair: ports.Credential) -> ports.Credential:
        if await self._deps.credentials.store_renewed(user_id, version=version, credential=pair):
            self._metrics.renewals.labels("renewed").inc()
            return pair
        held = await self._load(user_id)
        if held.credential == pair:
            # An attempt that seemed to fail had stored it.
            self._metrics.renewals.labels("renewed").inc()
        else:
            self._metrics.renewals.labels("lost").inc()
            self._log.warning("renewed_credential_too_late", user=user_id)
        return held.credential


def _seconds_left(held: ports.StoredCredential, now: float) -> float:
    """Return the seconds for which the access token still lives; infinite when nobody said."""
    ends = held.credential.expires_at
    return float("inf") if ends is None else ends - now


CREDENTIAL_REVOKED = "CREDENTIAL_REVOKED"
"""Why the user's work ended when his consent was taken back."""
MAX_PERMIT_WAIT = 1.0
"""Longest wait for the permit to tell Discord, in seconds."""
REVOKE_TIMEOUT = 5.0
"""Longest time for telling Discord, in seconds."""


class CredentialState(enum.StrEnum):
    """Whether a credential can be used."""

    MISSING = "MISSING"
    ACTIVE = "ACTIVE"
    REAUTH_REQUIRED = "REAUTH_REQUIRED"


@dataclasses.dataclass(frozen=True, slots=True)
class CredentialStatus:
    """What may be told of a credential; nothing of its tokens."""

    state: CredentialState
    scopes: tuple[str, ...] = ()
    expires_at: float | None = None


class CredentialControl:
    """Looks at credentials and revokes them."""

    def __init__(self, deps: ports.Dependencies, controls: control_job.JobControl) -> None:
        self._deps = deps
        self._controls = controls
        self._log = logs.get(__name__)

    async def get_status(self, user_id: int) -> CredentialStatus:
        """Return how the user's credential stands. One round trip; raises errors.StoreUnavailable."""
        try:
            held = await self._deps.credentials.get(user_id)
        except errors.CredentialMissing:
            return CredentialStatus(CredentialState.MISSING)
        except errors.ReauthRequired:
            return CredentialStatus(CredentialState.REAUTH_REQUIRED)
        state = CredentialState.REAUTH_REQUIRED if held.refused else CredentialState.ACTIVE
        return CredentialStatus(state, held.credential.scopes, held.credential.expires_at)

    async def revoke(self, user_id: int) -> bool:
        """
        Forget the user's tokens, end his work, and ask Discord to revoke them; returns whether Discord has.

        They are forgotten first: whatever fails then, they are not used any more. Discord is asked once and not for
        long; when it does not answer, the access token lives there until it ends by itself. Calling again is safe.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: The tokens may be forgotten or not; call again.
        """
        pair = await self._deps.credentials.delete(user_id)
        told, _ = await asyncio.gather(
            self._revoke_at_discord(user_id, pair), self._controls.stop_user_job(user_id, CREDENTIAL_REVOKED)
        )
        self._log.info("credential_revoked", user=user_id, at_discord=told)
        return told

    async def _revoke_at_discord(self, user_id: int, pair: ports.Credential | None) -> bool:
        if pair is None or not self._deps.oauth.enabled:
            return False
        try:
            async with asyncio.timeout(REVOKE_TIMEOUT):
                purpose = ports.Purpose(model.Lane.INTERACTIVE, user_id, "", MAX_PERMIT_WAIT)
                await self._deps.oauth.revoke(pair, purpose)
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.warning("not_revoked_at_discord", user=user_id, reason=type(problem).__name__)
            return False
        return True
