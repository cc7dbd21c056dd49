"""Interprets Discord's answers for the budgets (developers/topics/rate-limits.mdx, read 2026-08-06)."""

from indexing.ratelimit import bounds, limits, protocol, route_limits

GLOBAL_MARGIN = 0.25
"""Seconds added to a global pause. Our guess: a second 429 would cost more."""
EDGE_PAUSE = 60.0
"""Shortest pause, in seconds, after a block by the edge, which often names none (discord-api-docs issue 5810)."""
FIRST_PAUSE = 1.0
"""Seconds of pause after a 429 that names no wait. The store doubles the pause for each further 429 in a row."""
INVALID_STATUSES = {401, 403, 429}
"""Statuses that count towards the ban of the address, a 429 only if it is not shared (same page, Invalid Request
Limit)."""

REFUSED_STATUSES = {401, 403}
"""Of these, the statuses that are about the token; a 429 is about our calls."""


def interpret_answer(answer: limits.Answer, charge: limits.Charge) -> protocol.Outcome:
    """Return what *answer*, which has a status, means for the budgets that *charge* names."""
    scope = _scope(answer)
    handled = scope is None and answer.is_discord and answer.status is not None and answer.status < 500  # noqa: PLR2004 -- HTTP
    pause, wait = _pause(answer, scope), _wait(answer)
    learn = handled or scope == "route"
    return protocol.Outcome(
        round_trip=answer.round_trip,
        headers=route_limits.BucketHeaders.parse_headers(answer.headers) if learn else None,
        headers_expected=handled,
        # A global one concerns the token alone, and the user whose budget was charged may not be the token's.
        scope="route" if scope == "global" and charge.is_proof else scope,
        pause=pause,
        clipped=scope is not None and wait is not None and wait >= bounds.MAX_WAIT,
        invalid=answer.status in INVALID_STATUSES and scope != "shared",
        refused=answer.status in REFUSED_STATUSES and scope is None,
    )


def _scope(answer: limits.Answer) -> protocol.Scope | None:
    if not answer.is_discord:
        return "edge"
    if answer.status != 429:  # noqa: PLR2004 -- HTTP Too Many Requests
        return None
    named = answer.headers.get("x-ratelimit-scope", "")
    if answer.body_global or named == "global" or "x-ratelimit-global" in answer.headers:
        return "global"
    return "shared" if named == "shared" else "route"


def _wait(answer: limits.Answer) -> float | None:
    """Return the wait that the body names, else the header's, None when there is none; 0 names none."""
    wait = bounds.wait(answer.body_retry_after)
    return (bounds.header_wait(answer.headers.get("retry-after", "")) if wait is None else wait) or None


def _pause(answer: limits.Answer, scope: protocol.Scope | None) -> float:
    """Return the pause in seconds."""
    if scope is None:
        return 0.0
    wait = _wait(answer)
    if wait is None:
        wait = FIRST_PAUSE
    if scope == "edge":
        wait = max(wait, EDGE_PAUSE)
    if scope == "global":
        wait += GLOBAL_MARGIN
    return min(wait, bounds.MAX_WAIT)
