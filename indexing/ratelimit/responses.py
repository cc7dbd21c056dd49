"""What an answer of Discord means for the budgets (developers/topics/rate-limits.mdx, read 2026-08-06)."""

from indexing.ratelimit import limits, protocol, route_limits

GLOBAL_MARGIN = 0.25
"""Seconds added to a global pause: our guess, a second 429 would cost more."""
EDGE_PAUSE = 60.0
"""Shortest pause, in seconds, after a block by the edge, which often names none (discord-api-docs issue 5810)."""
LONGEST_PAUSE = 3600.0
FIRST_PAUSE = 1.0
"""Seconds after a 429 that names no wait; doubled for each further one in a row."""
INVALID = {401, 403, 429}
"""Count towards the ban of the address, a 429 only if it is not shared (same page, Invalid Request Limit)."""


def outcome_of(answer: limits.Answer, *, excess: float | None, in_a_row: int) -> protocol.Outcome:
    """
    Return what *answer*, which has a status, means.

    Args:
        answer: As it was read.

        excess: Seconds by which the way back took longer than the shortest; None when unknown.

        in_a_row: 429s before this one that named no wait.
    """
    scope = _scope(answer)
    proper = scope is None and answer.is_discord and answer.status is not None and answer.status < 500  # noqa: PLR2004 -- HTTP
    headers = route_limits.Headers.read(answer.headers) if proper or scope == "route" else None
    return protocol.Outcome(
        round_trip=answer.round_trip,
        excess=excess,
        headers=headers,
        proper=proper,
        scope=scope,
        pause=_pause(answer, scope, in_a_row),
        invalid=answer.status in INVALID and scope != "shared",
    )


def names_no_wait(answer: limits.Answer) -> bool:
    """Return whether *answer* is a 429 that does not say how long to wait."""
    return answer.status == 429 and answer.body_retry_after is None and _header_wait(answer) is None  # noqa: PLR2004 -- HTTP


def _scope(answer: limits.Answer) -> protocol.Scope | None:
    if not answer.is_discord:
        return "edge"
    if answer.status != 429:  # noqa: PLR2004 -- HTTP Too Many Requests
        return None
    named = answer.headers.get("x-ratelimit-scope", "")
    if answer.body_global or named == "global" or "x-ratelimit-global" in answer.headers:
        return "global"
    return "shared" if named == "shared" else "route"


def _header_wait(answer: limits.Answer) -> float | None:
    try:
        wait = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return wait if wait >= 0 else None


def _pause(answer: limits.Answer, scope: protocol.Scope | None, in_a_row: int) -> float:
    """Return how long to pause: the body's number, else the header's, else longer and longer."""
    if scope is None:
        return 0.0
    wait = answer.body_retry_after if answer.body_retry_after is not None else _header_wait(answer)
    if wait is None or not wait >= 0:
        wait = FIRST_PAUSE * 2.0 ** min(in_a_row, 6)
    if scope == "edge":
        wait = max(wait, EDGE_PAUSE)
    if scope == "global":
        wait += GLOBAL_MARGIN
    return min(wait, LONGEST_PAUSE)
