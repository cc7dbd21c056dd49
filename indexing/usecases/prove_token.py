"""
Prove whose access token it is, before anything is done with it.

Discord says which user and which application a token belongs to (`GET /oauth2/@me`). A pair that a caller brings is
stored as proven when both are ours, and not at all when Discord names another or refuses the token. When Discord cannot
be asked in time, the pair is stored unproven, beside the one in use. The user's next turn proves it and puts it in the
place of the other; until then the proven one stays in use, so that junk ends nobody's work.
"""

import dataclasses
from collections.abc import Mapping

from indexing import errors
from indexing.domain import ports
from indexing.telemetry import metrics

RESULTS: Mapping[type[errors.IndexerError], str] = {
    errors.CredentialOfAnotherUser: "other_user",
    errors.CredentialOfAnotherApplication: "other_application",
    errors.IdentifyScopeMissing: "no_user",
    errors.TokenRefused: "refused",
    errors.CredentialUnverifiable: "unverifiable",
}
"""Results of proofs that failed, a label of `indexer_credential_proofs_total`; all others are `unanswered`."""


class TokenProver:
    """Proves tokens, and counts the results."""

    def __init__(self, oauth: ports.OAuth, metrics: metrics.IndexingMetrics) -> None:
        self._oauth = oauth
        self._metrics = metrics

    async def prove(self, user_id: int, pair: ports.Credential, purpose: ports.Purpose) -> ports.Credential:
        """
        Return the pair with the scopes and the expiry that Discord names, if the token is the user's.

        Raises:
            errors.CredentialRejected: It is another user's or another application's, or does not say whose it is.
            errors.TokenRefused, and the other errors of `ports.OAuth.describe`.
        """
        result = "unanswered"
        try:
            proven = _check(user_id, pair, await self._oauth.describe(pair, purpose))
            result = "proven"
        except errors.IndexerError as problem:
            result = RESULTS.get(type(problem), result)
            raise
        finally:
            # A proof that took too long is cancelled.
            self._metrics.proofs.labels(result).inc()
        return proven


def _check(user_id: int, pair: ports.Credential, found: ports.Authorization) -> ports.Credential:
    if not found.ours:
        raise errors.CredentialOfAnotherApplication
    if found.user_id is None:
        raise errors.IdentifyScopeMissing
    if found.user_id != user_id:
        raise errors.CredentialOfAnotherUser
    expires_at = pair.expires_at if found.expires_at is None else found.expires_at
    return dataclasses.replace(pair, scopes=found.scopes, expires_at=expires_at)


async def drop_unproven_list(deps: ports.Dependencies, user_id: int) -> None:
    """Empty a guild list that an unproven pair brought: it may be another user's. Raises errors.StoreUnavailable."""
    known = await deps.users.load(user_id)
    if known is not None and known.memberships and not known.list_proven:
        await deps.users.replace_guild_list(known, [], deps.clock())
