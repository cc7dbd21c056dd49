"""
The pace at which calls without a valid token are refused.

gRPC hands calls to Python one after the other, whatever their connection (grpcio 1.85), and each refusal takes 0.2 ms
of the event loop: thousands at once would delay the calls of all callers by as much. A call that waits for its refusal
occupies one of the streams of its connection, so that its sender cannot open the next one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from google.protobuf import message

from indexer_service.interceptors import base
from indexing.domain import ports

INTERVAL = 0.002
"""Seconds between two refusals in the long run."""
BURST = 100
"""Refusals at once after a pause, such as those of a caller whose token was revoked."""


class PacingInterceptor(base.Interceptor):
    """
    Lets calls without a valid token through to their refusal at a pace, in the order of their arrival.

    The outermost interceptor, so that a waiting call has cost as little as possible.

    Args:
        is_known: Returns whether a call carries a valid token.

        monotonic: A clock that never goes back.
    """

    def __init__(self, is_known: Callable[[base.Context], bool], monotonic: ports.Clock = time.monotonic) -> None:
        self._is_known = is_known
        self._monotonic = monotonic
        self._next_at = 0.0
        self._line = asyncio.Lock()

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:  # noqa: ARG002 -- the same for all methods
        """Return a handler that waits before it refuses."""

        async def call(request: message.Message, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            if not self._is_known(context):
                await self._wait()
            return await inner(request, context)

        return call

    async def _wait(self) -> None:
        """Return when it is this refusal's turn. One that is cancelled meanwhile takes no time from the others."""
        async with self._line:
            now = self._monotonic()
            if self._next_at > now:
                await asyncio.sleep(self._next_at - now)
            self._next_at = max(self._next_at, now - (BURST - 1) * INTERVAL) + INTERVAL
