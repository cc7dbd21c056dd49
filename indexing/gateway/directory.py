"""What GET /gateway/bot says, kept for a minute, and the permission to identify."""

import asyncio
import time

from indexing import errors, settings
from indexing.discord import client, gateway_payload
from indexing.domain import model, ports
from indexing.ratelimit import identifies
from indexing.telemetry import logs

MAX_AGE = 60.0
"""Seconds for which an answer is used. Asked at each reconnect, the route answers 429."""
PERMIT_WAIT = 10.0
RETRY = 5.0
RESERVE_WAIT = 60.0
"""Seconds between two looks whether Discord has given back some of the day's identifies."""
PURPOSE = ports.Purpose(model.Lane.INTERACTIVE, None, "", PERMIT_WAIT)


class Directory:
    """Knows where to connect, how many shards there are, and whether a session may be identified."""

    def __init__(
        self, discord: client.DiscordClient, permits: identifies.Identifies, config: settings.GatewaySettings
    ) -> None:
        self._discord = discord
        self._permits = permits
        self._config = config
        self._info: gateway_payload.GatewayInfo | None = None
        self._read_at = float("-inf")
        self._identified = 0
        self._reading = asyncio.Lock()
        self._log = logs.get(__name__)

    async def read(self, max_age: float = MAX_AGE) -> gateway_payload.GatewayInfo:
        """Return the newest answer, waiting until there is one."""
        async with self._reading:
            while self._info is None or time.monotonic() - self._read_at > max_age:
                try:
                    self._info = await self._discord.gateway_info(PURPOSE)
                    self._read_at, self._identified = time.monotonic(), 0
                except errors.IndexerError as problem:
                    self._log.warning("gateway_address_unknown", reason=problem.reason, error=str(problem))
                    if self._info is not None:
                        break
                    await asyncio.sleep(RETRY)
            return self._info

    async def shard_count(self) -> int:
        """Return the number of shards: as configured, or as Discord recommends."""
        return self._config.shards or (await self.read()).shards

    async def permit_identify(self, shard_id: int) -> identifies.Identify:
        """Return the right to identify, waiting for it. It must be used within `identifies.CONNECT_TIME`."""
        while True:
            info = await self.read()
            limit = info.session_start_limit
            if limit.remaining - self._identified <= self._config.identify_reserve * limit.total:
                self._log.error("identifies_used_up", remaining=limit.remaining, total=limit.total)
                await asyncio.sleep(RESERVE_WAIT)
                continue
            try:
                taken = await self._permits.take(
                    shard_id, concurrency=limit.max_concurrency, per_day=max(1, limit.total)
                )
            except errors.LimiterUnavailable as problem:
                await asyncio.sleep(problem.retry_after)
                continue
            if isinstance(taken, identifies.Identify):
                self._identified += 1
                return taken
            await asyncio.sleep(min(max(taken, 0.01), RESERVE_WAIT))

    async def identified(self, taken: identifies.Identify) -> None:
        """Note that the identify was sent."""
        try:
            await self._permits.sent(taken)
        except errors.LimiterUnavailable as problem:
            # It is held for longer than it counts.
            self._log.warning("identify_not_settled", error=str(problem))

    async def give_back(self, taken: identifies.Identify) -> None:
        """Note that the identify was not sent and will not be."""
        self._identified -= 1
        try:
            await self._permits.give_back(taken)
        except errors.LimiterUnavailable as problem:
            self._log.warning("identify_not_given_back", error=str(problem))
