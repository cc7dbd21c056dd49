"""Whether the event loop of this process goes on, for its liveness."""

import asyncio
import time

TICK = 1.0
STALE = 30.0
"""Seconds without a tick of the event loop, or without a look for messages, after which the process counts as stuck."""


class Pulse:
    """Beats as a duty of the loop; read from any thread."""

    def __init__(self) -> None:
        self._beaten = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            self._beaten = time.monotonic()
            await asyncio.sleep(TICK)

    def live(self) -> bool:
        """Return whether it beats; before the first time it is not missed."""
        return not self._beaten or time.monotonic() - self._beaten < STALE
