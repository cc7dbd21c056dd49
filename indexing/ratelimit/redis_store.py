"""
Budgets in Redis: one script for everything that changes them, plain reads for the display.

The script's parts stand beside this module; state.lua says what it is given and what it answers. Besides Redis' own
clock the script gets what our stopwatch says (stopwatch.py). So a clock that is set on Redis' machine frees no permit
early; it costs the same wait as lost state.
"""

import contextlib
import importlib.resources
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from indexing import errors
from indexing.ratelimit import codec, fleet_clock, limits, protocol, redis_reading

PARTS = ("state", "permits", "routes", "settle", "line", "acquire", "exchange")
AWAY = 1.0
"""Seconds after which asking again makes sense when Redis is away: our guess, between load and delay."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the client's failures into ours: no call to Discord without a permit."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise errors.LimiterUnavailable(AWAY) from error


def script(rules: limits.Rules) -> str:
    """Return the script's source, with the rules at its head."""
    folder = importlib.resources.files(__package__).joinpath("lua")
    parts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in PARTS]
    return "\n".join([codec.rules(rules), *parts])


class RedisBudgets:
    """
    Adapter of `ledger.BudgetStore`: one command for each exchange.

    Args:
        application: Name under which all processes of one bot token meet; a hash of the token.

        now: Moments in seconds instead of Redis' own clock, for tests with a manual clock.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        application: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._keys = limits.Keys(application)
        self._clock = clock
        self._now = now
        self._scripts: dict[limits.Rules, Any] = {}
        self._stopwatch = fleet_clock.Stopwatch()

    async def exchange(
        self, rules: limits.Rules, settlements: Sequence[protocol.Settlement], asks: Sequence[protocol.Ask]
    ) -> tuple[list[protocol.Settled], list[protocol.Verdict]]:
        """Run the script; it is loaded again when Redis does not know it (any more)."""
        now = self._clock()
        said: dict[str, Any] = {
            **self._stopwatch.says(now),
            "settle": [codec.settlement(one, now) for one in settlements],
            "ask": [codec.ask(one) for one in asks],
        }
        if self._now is not None:
            said["now"] = int(self._now() * 1000)
        keys = codec.keys(self._keys, rules, settlements, asks)
        with translated():
            moment, shown, born, era, settled, verdicts = await self._script(rules)(keys, [codec.encode(said)])
        self._stopwatch.learn(fleet_clock.Reading(moment, now, self._clock(), era, born), shown)
        return (
            [codec.settled(reply) for reply in settled],
            [codec.verdict(reply, one, rules, moment) for reply, one in zip(verdicts, asks, strict=True)],
        )

    def _script(self, rules: limits.Rules) -> Any:  # noqa: ANN401 -- redis-py's script, whose replies are untyped
        if rules not in self._scripts:
            self._scripts[rules] = self._client.register_script(script(rules))
        return self._scripts[rules]

    async def snapshot(self, rules: limits.Rules, users: Sequence[int]) -> list[limits.BudgetState]:
        """Read in two round trips; each budget is whole, the list is not one moment's."""
        with translated():
            return await redis_reading.snapshot(self._client, self._keys, rules, users, self._now)

    async def forget_user(self, user: int) -> None:
        """Remove the user's places and names now, and let his ledgers end with their last permit."""
        with translated():
            await redis_reading.forget_user(self._client, self._keys, user)
