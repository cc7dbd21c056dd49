"""
Users' OAuth2 token pairs: renewed before they expire, looked at, and revoked.

Every write is a compare-and-set on the stored `version`. A process that finds a pair about to expire locks it, trades
its refresh token, and stores the new pair before anything uses it. Other processes use the old pair until it expires,
then wait a few seconds for the new one.

A refresh token works once, so the critical moment is between Discord's response and the write. A process that crashes
there leaves the old pair locked. After the lock expires, the next process tries the old refresh token again: Discord
renews it if the first request never arrived. Otherwise Discord refuses it, and the user must log in again
(REAUTH_REQUIRED). A pair that is not stored is never used, and no work waits longer than the lock.

A revoked pair is deleted first and revoked at Discord second, so that no process uses it whatever fails in between.

Round trips while the pair is valid: 1 to MongoDB. To renew it: 1 to Discord, 2 to Redis, 2 to MongoDB more.
"""

import asyncio
import dataclasses
import enum
from typing import NoReturn

from indexing import concurrency, errors
from indexing.domain import model, ports
from indexing.telemetry import logs, metrics
from indexing.usecases import control_job

RENEW_AHEAD = 600.0
"""Seconds before its expiry from which a pair is renewed; Discord's access tokens are valid for a week."""
UNUSABLE_BELOW = 15.0
"""Seconds before its expiry from which a token is not used any more: longer than one call takes."""
RENEWAL_WAIT = 5.0
"""Longest wait for a pair that another process renews, in seconds; a renewal takes about half a second."""
POLL_INTERVAL = 0.2
"""Seconds between two checks for the renewed pair."""
LOCK_MARGIN = 5.0
"""Seconds that a lock outlasts the call, for the write."""
RETRY_PAUSE = 5.0
"""Seconds until the next attempt after a transient failure."""
LONG_RETRY_PAUSE = 60.0
"""The same after an error of our application: each counts towards the invalid-request limit of the whole fleet."""
CONFIRMATION_PAUSE = 5.0
"""Seconds between two refusals of an access token that end the consent: Discord refuses good tokens for a moment."""
DOUBT_LIFETIME = 3_600.0
"""Seconds after which a refusal no longer counts as the first of two."""
STORE_RETRIES = (0.1, 0.3, 0.9)
"""Seconds before each retry of storing a new pair: if it is lost, the user must log in again."""

CREDENTIAL_REVOKED = "CREDENTIAL_REVOKED"
"""Reason of a job that ended with the revocation of its user's credential."""
REVOKE_PERMIT_WAIT = 1.0
"""Longest wait for the permit of a revocation, in seconds."""
REVOKE_TIMEOUT = 5.0
"""Longest time for the revocation at Discord, in seconds."""

RECOVERABLE_ERRORS = (
    *(errors.RateLimited, errors.LimiterUnavailable, errors.EgressBlocked),
    *(errors.DiscordTransient, errors.DiscordRefused),
)
"""Failures of a renewal that leave the user's consent valid."""


class TokenManager:
    """Provides valid token pairs, renewing them when needed."""

    def __init__(self, deps: ports.Dependencies, metrics: metrics.IndexingMetrics) -> None:
        self._deps = deps
        self._metrics = metrics
        self._doubted: dict[int, str | None] = {}
        self._log = logs.get(__name__)

    async def get_usable(self, user_id: int, purpose: ports.Purpose) -> ports.Credential:
        """
        Return the user's pair, renewed if it is about to expire.

        Raises:
            errors.CredentialMissing, errors.ReauthRequired: There is none, or only the user can renew it.
            errors.CredentialBusy, and the errors of `ports.OAuth`: It has expired and cannot be renewed now.
        """
        held = await self._load(user_id)
        left = _seconds_left(held, self._deps.clock())
        if left > RENEW_AHEAD or not self._renewable(held):
            return held.credential
        if left > UNUSABLE_BELOW and held.locked_until > self._deps.clock():
            return held.credential
        try:
            return await self._renew(user_id, held, purpose)
        except RECOVERABLE_ERRORS as problem:
            if _seconds_left(held, self._deps.clock()) <= UNUSABLE_BELOW:
                raise
            self._log.info("credential_renewal_deferred", user=user_id, reason=problem.reason)
            return held.credential

    async def renew_refused(self, user_id: int, used: ports.Credential, purpose: ports.Purpose) -> ports.Credential:
        """
        Return the pair to use after Discord refused *used*: the stored one if it is another, else a renewed one.

        A pair that cannot be renewed, or was refused before, is not renewed; see `confirm_refused`.

        Raises:
            errors.ReauthRequired: The consent has ended; the user must log in again, and all their work stops.
            errors.CredentialMissing, errors.CredentialBusy, and the errors of `ports.OAuth`.
        """
        held = await self._load(user_id)
        if held.credential.access_token != used.access_token:
            return held.credential
        doubted = 0.0 <= self._deps.clock() - held.doubted_at < DOUBT_LIFETIME
        if doubted or not self._renewable(held):
            await self._confirm_refused(user_id, held)
        return await self._renew(user_id, held, purpose)

    async def confirm_refused(self, user_id: int, used: ports.Credential) -> NoReturn:
        """
        Judge a refusal of the pair *used*, which is new or was renewed just now.

        One refusal is no proof, because Discord refuses good tokens for a moment. Two that are some seconds apart are.

        Raises:
            errors.CredentialBusy: It is the first refusal, or another pair is stored since; ask again then.
            errors.ReauthRequired: It is the second; the user must log in again.
            errors.CredentialMissing: The pair is erased.
        """
        held = await self._load(user_id)
        if held.credential.access_token != used.access_token:
            raise errors.CredentialBusy(user_id, POLL_INTERVAL)
        await self._confirm_refused(user_id, held)

    async def note_accepted(self, user_id: int) -> None:
        """Forget a first refusal: Discord has accepted the pair since. No round trip without one."""
        if user_id in self._doubted:
            await self._deps.credentials.mark_doubted(user_id, version=self._doubted.pop(user_id), at=0.0)

    async def _confirm_refused(self, user_id: int, held: ports.StoredCredential) -> NoReturn:
        now = self._deps.clock()
        age = now - held.doubted_at
        if CONFIRMATION_PAUSE <= age < DOUBT_LIFETIME:
            if await self._deps.credentials.mark_refused(user_id, version=held.version):
                self._log.info("reauth_required", user=user_id, reason="access token refused twice")
                raise errors.ReauthRequired(user_id)
            raise errors.CredentialBusy(user_id, POLL_INTERVAL)
        if not 0 <= age < CONFIRMATION_PAUSE:
            self._log.info("access_token_refused", user=user_id)
            await self._deps.credentials.mark_doubted(user_id, version=held.version, at=now)
            age = 0.0
        raise errors.CredentialBusy(user_id, CONFIRMATION_PAUSE - age)

    async def _load(self, user_id: int) -> ports.StoredCredential:
        try:
            held = await self._deps.credentials.get(user_id)
        except errors.ReauthRequired:
            # The row stays unchanged: the credential is usable again when the key is configured again.
            self._log.error("credential_undecryptable", user=user_id)
            raise
        if held.refused:
            raise errors.ReauthRequired(user_id)
        if held.doubted_at:
            self._doubted[user_id] = held.version
        else:
            self._doubted.pop(user_id, None)
        return held

    def _renewable(self, held: ports.StoredCredential) -> bool:
        return self._deps.oauth.enabled and bool(held.credential.refresh_token)

    async def _renew(self, user_id: int, held: ports.StoredCredential, purpose: ports.Purpose) -> ports.Credential:
        """Renew the pair, or wait until another process has."""
        until = self._deps.clock() + RENEWAL_WAIT
        before = held.credential
        while held.credential == before:
            now = self._deps.clock()
            version = None
            if held.locked_until <= now:
                lease = self._deps.oauth.max_call_time + purpose.max_wait + LOCK_MARGIN
                version = await self._deps.credentials.lock(user_id, version=held.version, now=now, until=now + lease)
            if version is not None:
                # Shielded: a turn that is cancelled must not lose a response in flight.
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
        """Trade the refresh token while holding the lock."""
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
            application_error = isinstance(problem, errors.DiscordRefused)
            self._metrics.renewals.labels("failed").inc()
            self._log.warning("credential_not_renewed", user=user_id, reason=problem.reason)
            await self._deps.credentials.unlock(
                user_id, version=version, until=now() + (LONG_RETRY_PAUSE if application_error else RETRY_PAUSE)
            )
            raise
        return await self._store_with_retries(user_id, version, pair)

    async def _store_with_retries(self, user_id: int, version: str, pair: ports.Credential) -> ports.Credential:
        """Store the new pair and return the stored one: the new pair, or the one that replaced it meanwhile."""
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
            # An earlier attempt failed after the write.
            self._metrics.renewals.labels("renewed").inc()
        else:
            self._metrics.renewals.labels("lost").inc()
            self._log.warning("renewed_credential_too_late", user=user_id)
        return held.credential


def _seconds_left(held: ports.StoredCredential, now: float) -> float:
    """Return the seconds until the access token expires; infinite when that is unknown."""
    expires_at = held.credential.expires_at
    return float("inf") if expires_at is None else expires_at - now


class CredentialState(enum.StrEnum):
    """Whether a credential can be used."""

    MISSING = "MISSING"
    ACTIVE = "ACTIVE"
    REAUTH_REQUIRED = "REAUTH_REQUIRED"


@dataclasses.dataclass(frozen=True, slots=True)
class CredentialStatus:
    """The status of a credential, without its tokens."""

    state: CredentialState
    scopes: tuple[str, ...] = ()
    expires_at: float | None = None


class CredentialControl:
    """Reports the status of credentials and revokes them."""

    def __init__(self, deps: ports.Dependencies, controls: control_job.JobControl) -> None:
        self._deps = deps
        self._controls = controls
        self._log = logs.get(__name__)

    async def get_status(self, user_id: int) -> CredentialStatus:
        """Return the status of the user's credential. One round trip; raises errors.StoreUnavailable."""
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
        Delete the user's tokens, end their job, and revoke the tokens at Discord; returns whether Discord did.

        Discord is asked once, for at most REVOKE_TIMEOUT; if that fails, the access token stays valid there until it
        expires. The call is idempotent.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: The tokens may or may not be deleted; call again.
        """
        pair = await self._deps.credentials.delete(user_id)
        revoked, _ = await asyncio.gather(
            self._revoke_at_discord(user_id, pair), self._controls.stop_user_job(user_id, CREDENTIAL_REVOKED)
        )
        self._log.info("credential_revoked", user=user_id, at_discord=revoked)
        return revoked

    async def _revoke_at_discord(self, user_id: int, pair: ports.Credential | None) -> bool:
        if pair is None or not self._deps.oauth.enabled:
            return False
        try:
            async with asyncio.timeout(REVOKE_TIMEOUT):
                purpose = ports.Purpose(model.Lane.INTERACTIVE, user_id, "", REVOKE_PERMIT_WAIT)
                await self._deps.oauth.revoke(pair, purpose)
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.warning("not_revoked_at_discord", user=user_id, reason=type(problem).__name__)
            return False
        return True
