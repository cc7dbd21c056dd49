"""HTTP responses, and the errors that those other than successes mean."""

import dataclasses
from collections.abc import Mapping

from indexing import errors
from indexing.discord import bounds, payloads

EDGE_PAUSE = 60.0
"""Seconds to pause when the edge blocks this address without a time: our guess, it trades minutes."""
EDGE_BLOCK_CODE = 40333
"""Discord's JSON code for a request that its edge refuses (topics/opcodes-and-status-codes.mdx, read 2026-08-06)."""
LIMIT_HEADERS = {"x-ratelimit-scope", "x-ratelimit-bucket", "x-ratelimit-global"}
"""Headers of a 429 by which Discord, not its edge, answers (topics/rate-limits.mdx, read 2026-08-06)."""
WRONG_TOKEN_CODES = {20001, 20002}
"""Codes for a token of the wrong kind: the call is wrong, and the guild may be accessible (same page)."""
REFUSALS: Mapping[int, type[errors.DiscordRefused]] = {
    401: errors.TokenRefused,
    403: errors.NoAccess,
    404: errors.Gone,
}
INVALID_TOKEN_CODES = {40001, 50014, 50025, 50026}
"""Codes of a token that is not valid, or lacks a scope, as 401 or 403 (same page)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; header names are in lower case. `body` is None when it is larger than the call allows."""

    status: int
    headers: Mapping[str, str]
    body: bytearray | None

    @property
    def error(self) -> payloads.ErrorBody | None:
        """Discord's error body; None when the body is not Discord's. A 429 may show that by its headers alone."""
        found = payloads.decode_error(self.body or b"")
        if found is None and self.status == 429 and self.headers.keys() & LIMIT_HEADERS:  # noqa: PLR2004 -- HTTP
            return payloads.ErrorBody("", is_global="x-ratelimit-global" in self.headers)
        return found


def translate_error(response: Response) -> errors.IndexerError:
    """
    Return the error for a status and Discord's JSON code; topics/opcodes-and-status-codes.mdx lists the codes.

    Only Discord's JSON, with `message` and `code`, says something about a guild, a user or a token. Everything else is
    from something in between, and passes; a 403 or 429 without even `message` blocks this address.
    """
    status, body = response.status, response.error
    if status in {403, 429} and (body is None or body.code == EDGE_BLOCK_CODE):
        return errors.EgressBlocked(status, _header_wait(response, default=EDGE_PAUSE))
    if status == 429 and body is not None:  # noqa: PLR2004 -- HTTP Too Many Requests
        scope = "global" if body.is_global else response.headers.get("x-ratelimit-scope", "user")
        wait = _header_wait(response, default=1.0) if body.retry_after is None else body.retry_after
        return errors.RateLimited("route" if scope != "global" else scope, retry_after=wait, why=f"429 {scope}")
    if not 400 <= status < 500 or status == 408 or body is None or body.code is None:  # noqa: PLR2004 -- HTTP
        return errors.DiscordTransient(f"Discord answered {status}" + ("" if body else " without its JSON"))
    return _refusal_for(status, body.code)(status, body.code)


def _refusal_for(status: int, code: int) -> type[errors.DiscordRefused]:
    if code in WRONG_TOKEN_CODES:
        return errors.DiscordRefused
    if status == 403 and code in INVALID_TOKEN_CODES:  # noqa: PLR2004 -- HTTP Forbidden
        return errors.TokenRefused
    return REFUSALS.get(status, errors.DiscordRefused)


def _header_wait(response: Response, *, default: float) -> float:
    wait = bounds.header_wait(response.headers.get("retry-after", ""))
    return default if wait is None else wait
