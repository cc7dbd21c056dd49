"""
Users' OAuth2 token pairs: proven before their first use, and renewed before they expire.

Every write is a compare-and-set on the stored `version`. A process that finds a pair about to expire locks it, trades
its refresh token, and stores the new pair before anything uses it. Other processes use the old pair until it expires,
then wait a few seconds for the new one.

A refresh token works once, so the critical moment is between Discord's response and the write. A process that crashes
there leaves the old pair locked. After the lock expires, the next process tries the old refresh token again: Discord
renews it if the first request never arrived. Otherwise Discord refuses it, and the user must log in again
(REAUTH_REQUIRED). A pair that is not stored is never used, and no work waits longer than the lock.

A newer pair that is not proven yet (prove_token.py) is tried first. If it fails, the one in use is used.

Round trips while the pair is valid: 1 to MongoDB. To renew it: 1 to Discord, 2 to Redis, 2 to MongoDB more. To prove
it, once: 1 to Discord, 2 to Redis, 3 to MongoDB.
"""

import asyncio
from typing import NoReturn

from indexing import concurrency, errors, settings
from indexing.domain import freshness, ports
from indexing.telemetry import logs, metrics
from indexing.usecases import prove_token

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

RECOVERABLE_ERRORS = (
    *(errors.RateLimited, errors.LimiterUnavailable, errors.EgressBlocked),
    *(errors.DiscordTransient, errors.DiscordRefused),
)
"""Failures of a renewal that leave the user's consent valid."""


class TokenManager:
    """
    Provides valid token pairs that are proven to be the user's, renewing them when needed.

    Args:
        unproven: Whether to manage the newer pairs that are not proven yet, instead of those in use.
    """

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        *,
        unproven: bool = False,
    ) -> None:
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._prover = prove_token.TokenProver(deps.oauth, metrics)
        self._pairs = deps.unproven if unproven else deps.credentials
        self._newer = None if unproven else TokenManager(deps, config, metrics, unproven=True)
        self._doubted: dict[int, tuple[str | None, int]] = {}
        self._log = logs.get(__name__)

    async def get_usable(self, user_id: int, purpose: ports.Purpose) -> ports.Credential:
        """
        Return the user's newest proven pair, renewed if it is about to expire, and proven now if that is missing.

        Raises:
            errors.CredentialMissing, errors.ReauthRequired: There is none, or only the user can renew it.
            errors.CredentialRejected: It is not the user's. It is erased.
            errors.CredentialBusy, and the errors of `ports.OAuth`: It cannot be renewed or proven now.
        """
        try:
            held = await self._load(user_id)
        except (errors.CredentialMissing, errors.ReauthRequired):
            if self._newer is None:
                raise
            try:
                return await self._newer.get_usable(user_id, purpose)
            except errors.CredentialMissing:
                # Another turn may have proven it, so that it is in use, after this one looked for it there.
                held = await self._load(user_id)
        if self._newer is not None and held.has_newer:
            newer = await self._newer.get_if_usable(user_id, purpose)
            if newer is not None:
                return newer
        return await self._get_proven(user_id, held, purpose)

    async def get_if_usable(self, user_id: int, purpose: ports.Purpose) -> ports.Credential | None:
        """Return what `get_usable` returns; None when that fails now or for good."""
        try:
            return await self.get_usable(user_id, purpose)
        except (errors.CredentialMissing, errors.ReauthRequired, errors.CredentialRejected, *RECOVERABLE_ERRORS) as why:
            self._log.info("newer_credential_not_used", user=user_id, reason=why.reason)
            return None

    async def _get_proven(self, user_id: int, held: ports.StoredCredential, purpose: ports.Purpose) -> ports.Credential:
        """Return the pair, proven now unless it is."""
        pair = await self._get_fresh(user_id, held, purpose)
        if held.proven:
            return pair
        try:
            return await self._prove(user_id, pair, purpose)
        except errors.TokenRefused:
            now = await self._load(user_id)
            replaced = now.credential.access_token != pair.access_token
            pair = now.credential if replaced else await self._renew_doubted(user_id, now, purpose)
        try:
            return await self._prove(user_id, pair, purpose)
        except errors.TokenRefused:
            await self.confirm_refused(user_id, pair)

    async def _prove(self, user_id: int, pair: ports.Credential, purpose: ports.Purpose) -> ports.Credential:
        """Prove a pair and make it the one in use."""
        try:
            proven = await self._prover.prove(user_id, pair, purpose)
        except errors.CredentialRejected:
            await self.reject(user_id, pair)
            raise
        if self._newer is None:
            await prove_token.drop_unproven_list(self._deps, user_id)
        held = await self._load(user_id)
        same = held.credential.access_token == pair.access_token
        if not same or not await self._pairs.mark_proven(user_id, version=held.version, credential=proven):
            raise errors.CredentialBusy(user_id, POLL_INTERVAL)
        self._doubted.pop(user_id, None)
        self._log.info("credential_proven", user=user_id)
        return proven

    async def reject(self, user_id: int, used: ports.Credential) -> None:
        """Erase the pair *used*, which is not the user's, and the guild list that the pair in use has brought."""
        held = await self._pairs.get(user_id)
        if held.credential.access_token != used.access_token:
            return
        if self._newer is not None and (known := await self._deps.users.load(user_id)) is not None:
            await self._deps.users.replace_guild_list(known, [], self._deps.clock())
        await self._pairs.reject(user_id, version=held.version)
        self._log.warning("credential_rejected", user=user_id)

    async def _get_fresh(self, user_id: int, held: ports.StoredCredential, purpose: ports.Purpose) -> ports.Credential:
        """Return the pair, renewed if it is about to expire."""
        left = _seconds_left(held, self._deps.clock())
        if left > RENEW_AHEAD or not self._renewable(held):
            return held.credential
        if left > UNUSABLE_BELOW and freshness.is_held(held.locked_until, self._deps.clock()):
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
        if held.credential.access_token == used.access_token:
            return await self._renew_doubted(user_id, held, purpose)
        if not held.proven:
            raise errors.CredentialBusy(user_id, POLL_INTERVAL)
        return held.credential

    async def _renew_doubted(
        self, user_id: int, held: ports.StoredCredential, purpose: ports.Purpose
    ) -> ports.Credential:
        doubted = 0.0 <= self._deps.clock() - held.doubted_at < DOUBT_LIFETIME
        if doubted or not self._renewable(held):
            await self._confirm_refused(user_id, held)
        return await self._renew(user_id, held, purpose)

    async def confirm_refused(self, user_id: int, used: ports.Credential) -> NoReturn:
        """
        Judge a refusal of the pair *used*, which is new or was renewed just now.

        One refusal is no proof, because Discord refuses good tokens for a moment. Two that are some seconds apart are.

        Raises:
            errors.CredentialBusy: It is the first refusal, or another pair was stored since; call again later.
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
            version, doubts = self._doubted.pop(user_id)
            await self._pairs.mark_doubted(user_id, version=version, doubts=doubts, at=0.0)

    async def _confirm_refused(self, user_id: int, held: ports.StoredCredential) -> NoReturn:
        now = self._deps.clock()
        age = now - held.doubted_at
        if CONFIRMATION_PAUSE <= age < DOUBT_LIFETIME:
            if await self._mark_refused(user_id, held.version):
                self._log.info("reauth_required", user=user_id, reason="access token refused twice")
                raise errors.ReauthRequired(user_id)
            raise errors.CredentialBusy(user_id, POLL_INTERVAL)
        if not 0 <= age < CONFIRMATION_PAUSE:
            self._log.info("access_token_refused", user=user_id)
            await self._pairs.mark_doubted(user_id, version=held.version, doubts=held.doubts, at=now)
            age = 0.0
        raise errors.CredentialBusy(user_id, CONFIRMATION_PAUSE - age)

    async def _mark_refused(self, user_id: int, version: str | None) -> bool:
        until = self._deps.clock() + self._config.reauth_grace
        return await self._pairs.mark_refused(user_id, version=version, shown_until=until)

    async def _load(self, user_id: int) -> ports.StoredCredential:
        try:
            held = await self._pairs.get(user_id)
        except errors.ReauthRequired:
            # The row stays unchanged: the credential is usable again when the key is configured again.
            self._log.error("credential_undecryptable", user=user_id)
            raise
        if held.refused:
            raise errors.ReauthRequired(user_id)
        if held.doubted_at:
            self._doubted[user_id] = held.version, held.doubts
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
            if not freshness.is_held(held.locked_until, now):
                lease = self._deps.oauth.max_call_time + purpose.max_wait + LOCK_MARGIN
                version = await self._pairs.lock(user_id, version=held.version, now=now, until=now + lease)
            if version is not None:
                # Shielded: a turn that is cancelled must not lose a response in flight.
                return await asyncio.shield(
                    concurrency.spawn_shared(self._renew_locked(user_id, held, version, purpose))
                )
            if now >= until:
                raise errors.CredentialBusy(user_id, min(max(held.locked_until - now, POLL_INTERVAL), RENEWAL_WAIT))
            await asyncio.sleep(POLL_INTERVAL)
            held = await self._load(user_id)
        return held.credential

    async def _renew_locked(
        self, user_id: int, held: ports.StoredCredential, version: str, purpose: ports.Purpose
    ) -> ports.Credential:
        """Trade the refresh token while holding the lock."""
        now = self._deps.clock
        try:
            pair = await self._deps.oauth.renew(held.credential, purpose, now())
        except errors.GrantRefused as refusal:
            self._metrics.renewals.labels("refused").inc()
            if await self._mark_refused(user_id, version):
                self._log.info("reauth_required", user=user_id)
                raise errors.ReauthRequired(user_id) from refusal
            return (await self._load(user_id)).credential
        except (errors.RateLimited, errors.LimiterUnavailable):
            await self._pairs.unlock(user_id, version=version)
            raise
        except errors.IndexerError as problem:
            application_error = isinstance(problem, errors.DiscordRefused)
            self._metrics.renewals.labels("failed").inc()
            self._log.warning("credential_not_renewed", user=user_id, reason=problem.reason)
            await self._pairs.unlock(
                user_id, version=version, until=now() + (LONG_RETRY_PAUSE if application_error else RETRY_PAUSE)
            )
            raise
        return await self._store_with_retries(user_id, version, pair, proven=held.proven)

    async def _store_with_retries(
        self, user_id: int, version: str, pair: ports.Credential, *, proven: bool
    ) -> ports.Credential:
        """Store the new pair and return the stored one: the new pair, or the one that replaced it meanwhile."""
        for pause in STORE_RETRIES:
            try:
                return await self._store_once(user_id, version, pair, proven=proven)
            except errors.StoreUnavailable:
                await asyncio.sleep(pause)
        try:
            return await self._store_once(user_id, version, pair, proven=proven)
        except errors.StoreUnavailable:
            self._metrics.renewals.labels("lost").inc()
            self._log.exception("renewed_credential_lost", user=user_id)
            raise

    async def _store_once(
        self, user_id: int, version: str, pair: ports.Credential, *, proven: bool
    ) -> ports.Credential:
        if await self._pairs.store_renewed(user_id, version=version, credential=pair, proven=proven):
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
