"""How old is too old."""

import random

from indexing import model

DICE = random.Random()  # noqa: S311 -- jitter, not a secret


def fetched_since(guild: model.Guild | None, since: float) -> bool:
    """Return whether the guild's channels were read after *since*."""
    return guild is not None and guild.fetched_at is not None and guild.fetched_at > since


def roles_are_fresh(membership: model.Membership, *, now: float, max_age: float) -> bool:
    """Return whether the user's role ids need not be asked for again."""
    return membership.roles_at is not None and now - membership.roles_at < max_age


def backoff(attempts: int, *, base: float, dice: random.Random = DICE) -> float:
    """
    Return the seconds to wait before the next try: *base* doubled for each failure after the first, ±25 %.

    Args:
        attempts: Failures so far, at least 1.
        base: Seconds after the first failure.
        dice: Source of the jitter, so that many failures at once do not come back at once.
    """
    return base * 2.0 ** (attempts - 1) * dice.uniform(0.75, 1.25)
