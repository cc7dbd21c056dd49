"""
Compares the guilds that a process feeds with the bot's guild list from Discord's HTTP API.

Joins and removals can be lost like any event (discord-api-docs issue 8162). A guild that is fed but not listed is
confirmed by a call of its own; then the session must end. A listed guild that the session does not feed is only
counted: it is read by REST, so that nothing about it is believed.
"""

import random
from collections.abc import Collection, Sequence

from indexing import errors
from indexing.domain import feed, feed_ports, model, ports
from indexing.telemetry import gateway_metrics, logs
from indexing.usecases import bot_list

PERMIT_WAIT = 10.0
PURPOSE = ports.Purpose(model.Lane.REFRESH, None, "gateway-list", PERMIT_WAIT)
MOST_CONFIRMED = 3
"""Guilds of a shard that are confirmed, one call each."""
RANDOM = random.Random()  # noqa: S311 -- which ones are confirmed, not a secret


class ListComparison:
    """Compares shards with the bot's list."""

    def __init__(
        self,
        bot_guilds: bot_list.BotGuilds,
        guilds: feed_ports.FedGuilds,
        metrics: gateway_metrics.GatewayMetrics,
        *,
        max_age: float,
    ) -> None:
        """*max_age*: seconds for which a listing by another process is used."""
        self._bot_guilds = bot_guilds
        self._guilds = guilds
        self._metrics = metrics
        self._max_age = max_age
        self._log = logs.get(__name__)

    async def compare(self, shards: Sequence[feed_ports.Shard]) -> list[str]:
        """
        Return the keys of the shards whose sessions feed guilds without our bot.

        Raises:
            errors.StoreUnavailable: Nothing can be compared now.
        """
        try:
            listed = await self._bot_guilds.get(PURPOSE, max_age=self._max_age)
            return [shard.key for shard in shards if listed is not None and await self._differs(shard, listed)]
        except (errors.RateLimited, errors.DiscordTransient, errors.EgressBlocked, errors.DiscordRefused) as problem:
            self._log.info("list_not_compared", reason=problem.reason)
            self._metrics.audits.labels("unknown").inc()
            return []

    async def _differs(self, shard: feed_ports.Shard, listed: Collection[int]) -> bool:
        _, count = shard.number
        theirs = {guild_id for guild_id in listed if feed.shard_key(guild_id, count) == shard.key}
        fed = await self._guilds.list_fed(shard)
        surplus = RANDOM.sample(sorted(fed - theirs), min(MOST_CONFIRMED, len(fed - theirs)))
        gone = [guild_id for guild_id in surplus if not await self._bot_guilds.verify_installed(guild_id, PURPOSE)]
        # The session may have told it meanwhile.
        differs = bool(set(gone) & await self._guilds.list_fed(shard))
        result = "differs" if differs else "missing" if theirs - fed else "same"
        self._metrics.audits.labels(result).inc()
        if result != "same":
            self._log.warning("list_differs", shard=shard.key, not_listed=gone, not_fed=len(theirs - fed))
        return differs
