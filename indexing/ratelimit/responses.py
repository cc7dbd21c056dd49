"""Interprets Discord's answers for the budgets (developers/topics/rate-limits.mdx, read 2026-08-06)."""

from indexing.ratelimit import limits, protocol, route_limits

GLOBAL_MARGIN = 0.25
"""Seconds added to a global pause. Our guess: a second 429 would cost more."""
EDGE_PAUSE = 60.0
"""Shortest pause, in seconds, after a block by the edge, which often names none (discord-api-docs issue 5810)."""
MAX_PAUSE = 3600.0
FIRST_PAUSE = 1.0
"""Seconds of pause after a 429 that names no wait; doubled for each further one in a row."""
INVALID_STATUSES = {401, 403, 429}
"""Statuses that count towards the ban of the address, a 429 only if it is not shared (same page, Invalid Request
Limit)."""


def interpret_answer(answer: limits.Answer, *, waitless_429s: int) -> protocol.Outcome:
    """
    Return what *answer*, which has a status, means for the budgets.

    Args:
        answer: As it was read.

        waitless_429s: Consecutive 429s before this one that named no wait.
    """
    scope = _scope(answer)
    handled = scope is None and answer.is_discord and answer.status is not None and answer.status < 500  # noqa: PLR2004 -- HTTP
    learn = handled or scope == "route"
    return protocol.Outcome(
        round_trip=answer.round_trip,
        headers=route_limits.BucketHeaders.parse_headers(answer.headers) if learn else None,
        headers_expected=handled,
        scope=scope,
        pause=_pause(answer, scope, waitless_429s),
        invalid=answer.status in INVALID_STATUSES and scope != "shared",
    )


def is_waitless_429(answer: limits.Answer) -> bool:
    """Return whether *answer* is a 429 that does not name a wait."""
    return answer.status == 429 and answer.body_retry_after is None and _retry_after(answer) is None  # noqa: PLR2004 -- HTTP


def _scope(answer: limits.Answer) -> protocol.Scope | None:
    if not answer.is_discord:
        return "edge"
    if answer.status != 429:  # noqa: PLR2004 -- HTTP Too Many Requests
        return None
    named = answer.headers.get("x-ratelimit-scope", "")
    if answer.body_global or named == "global" or "x-ratelimit-global" in answer.headers:
        return "global"
    return "shared" if named == "shared" else "route"


def _retry_after(answer: limits.Answer) -> float | None:
    try:
        wait = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return wait if wait >= 0 else None


def _pause(answer: limits.Answer, scope: protocol.Scope | None, waitless_429s: int) -> float:
    """Return the pause in seconds: from the body, else from the header, else an exponential back-off."""
    if scope is None:
        return 0.0
    wait = answer.body_retry_after if answer.body_retry_after is not None else _retry_after(answer)
    if wait is None or not wait >= 0:
        wait = FIRST_PAUSE * 2.0 ** min(waitless_429s, 6)
    if scope == "edge":
        wait = max(wait, EDGE_PAUSE)
    if scope == "global":
        wait += GLOBAL_MARGIN
    return min(wait, MAX_PAUSE)
