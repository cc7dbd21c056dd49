"""Drives one connection: carries out what the protocol's state machine wants, and passes on what was received."""

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from indexing.discord import payloads
from indexing.domain import feed
from indexing.gateway import dispatches, protocol, socket
from indexing.telemetry import gateway_metrics, logs, metric_types

MOST_SENDS, SENDS_WINDOW = 120, 60.0
"""Events that Discord accepts in 60 s on one connection (developers/events/gateway.mdx, Rate Limiting)."""
KEPT_SENDS = 20
"""Of these, how many are kept for heartbeats."""


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """An event number, with the event if it changes something; `at` is when it arrived, in monotonic seconds."""

    seq: int
    event: feed.Event | feed.MemberChanged | None
    at: float


Item = Received | protocol.Ready | protocol.Resumed | protocol.Proof


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """Why a connection ended, and what follows."""

    after: protocol.After
    reason: str
    pause: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outlets:
    """
    Where a connection passes on what it receives.

    Attributes:
        deliver: Takes events, sessions and proofs, in order; it waits while too much is queued.
        answered: Takes the nonce and the roles of an answer to op 8.
        may_identify: Returns whether the permission to identify, which was taken before connecting, still holds.
        identified: Called when the identify was sent.
    """

    deliver: Callable[[Item], Awaitable[None]]
    answered: Callable[[str, dict[int, tuple[int, ...] | None]], None]
    may_identify: Callable[[], bool]
    identified: Callable[[], Awaitable[None]]


class Link:
    """One connection of a shard. The token is only in the frames that are sent."""

    def __init__(
        self,
        machine: protocol.Connection,
        outlets: Outlets,
        metrics: gateway_metrics.GatewayMetrics,
        clock: Callable[[], float],
        bot_id: int,
    ) -> None:
        self.machine = machine
        self._outlets = outlets
        self._metrics = metrics
        self._clock = clock
        self._bot_id = bot_id
        self._socket: socket.Socket | None = None
        self._sends: collections.deque[float] = collections.deque(maxlen=MOST_SENDS)
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._unreadable = payloads.Unreadable()
        self._passed_on = None if machine.session is None else machine.session.seq
        self._log = logs.get(__name__)

    async def run(self, http: aiohttp.ClientSession, url: str) -> Ended:
        """Connect and serve until the connection ends. A cancelled connection keeps its session."""
        ended = await self._run(http, url)
        self.machine.rewind(self._passed_on)
        if self.machine.session is None and ended.after is protocol.After.RESUME:
            return dataclasses.replace(ended, after=protocol.After.IDENTIFY)
        return ended

    async def _run(self, http: aiohttp.ClientSession, url: str) -> Ended:
        try:
            async with socket.open_socket(http, url) as opened:
                self._socket = opened
                tasks = {asyncio.create_task(self._read(opened)), asyncio.create_task(self._keep_time())}
                try:
                    waits: set[asyncio.Future[Any]] = {*tasks, self._ended}
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await _cancel(tasks)
                if self._ended.done():
                    return self._ended.result()
                for task in tasks:
                    if not task.cancelled() and task.exception() is not None:
                        return self._after_failure(task.exception())
                return self._lost(None)
        except socket.Disconnected as lost:
            return self._lost(lost.code)

    async def request_members(self, guild_id: int, user_ids: list[int], nonce: str) -> bool:
        """Ask for members of a guild; False if nothing may be sent now."""
        now = time.monotonic()
        recent = sum(now - at < SENDS_WINDOW for at in self._sends)
        if not self.machine.attached or self._ended.done() or recent >= MOST_SENDS - KEPT_SENDS:
            return False
        data = {"guild_id": str(guild_id), "user_ids": [str(user_id) for user_id in user_ids], "nonce": nonce}
        try:
            await self._send(protocol.Send(protocol.REQUEST_MEMBERS, data))
        except socket.Disconnected:
            return False
        return True

    async def end_session(self, reason: str) -> None:
        """End the session, so that a new one is identified."""
        await self._do(self.machine.end_session(reason))

    def _lost(self, code: int | None) -> Ended:
        return Ended(self.machine.on_closed(code), "lost" if code is None else str(code))

    def _after_failure(self, problem: BaseException | None) -> Ended:
        if isinstance(problem, socket.Disconnected):
            return self._lost(problem.code)
        raise problem or RuntimeError("a task of the connection ended")

    async def _read(self, opened: socket.Socket) -> None:
        while True:
            text = await opened.receive()
            try:
                frame = dispatches.decode_frame(text)
            except dispatches.UnreadableFrame:
                self._log.exception("gateway_frame_unreadable")
                await self.end_session("unreadable")
                return
            await self._do(self.machine.on_frame(frame, time.monotonic()))

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(max(0.001, min(1.0, self.machine.due - time.monotonic())))
            await self._do(self.machine.on_time(time.monotonic()))

    async def _do(self, actions: list[protocol.Action]) -> None:
        for action in actions:
            if isinstance(action, protocol.Deliver):
                await self._deliver(action)
            elif isinstance(action, protocol.Send):
                await self._send(action)
            elif isinstance(action, protocol.AskIdentify):
                await self._identify()
            elif isinstance(action, protocol.Close):
                if self._socket is not None:
                    self._socket.close_code = action.code
                if not self._ended.done():
                    self._ended.set_result(Ended(action.after, action.reason, action.pause))
            elif isinstance(action, protocol.Ready):
                self._bot_id = action.data["bot_id"]
                await self._outlets.deliver(dataclasses.replace(action, asked_at=self._at(action.asked_at)))
                self._passed_on = action.session.seq
            elif isinstance(action, protocol.Proof):
                await self._outlets.deliver(protocol.Proof(self._at(action.at)))
            else:
                await self._outlets.deliver(action)

    async def _identify(self) -> None:
        if not self._outlets.may_identify():
            await self._do(self.machine.give_up("permit_expired"))
            return
        await self._do(self.machine.identify(time.monotonic()))
        await self._outlets.identified()

    def _at(self, moment: float) -> float:
        """Return the epoch second of a moment in monotonic seconds, which no change of the clock moves."""
        return self._clock() - (time.monotonic() - moment)

    async def _deliver(self, action: protocol.Deliver) -> None:
        self._metrics.events.labels(metric_types.GATEWAY_EVENT.fit(action.name)).inc()
        if action.name == dispatches.CHUNK:
            answer = dispatches.decode_chunk(action.data)
            if answer is not None:
                self._outlets.answered(*answer)
        try:
            event = dispatches.decode_event(action.name, action.data, self._bot_id, self._unreadable)
        except dispatches.UnreadableFrame:
            self._log.exception("gateway_event_unreadable", name=action.name)
            await self.end_session("unreadable")
            return
        await self._outlets.deliver(Received(action.seq, event, time.monotonic()))
        self._passed_on = action.seq

    async def _send(self, action: protocol.Send) -> None:
        if self._socket is not None:
            self._sends.append(time.monotonic())
            await self._socket.send(dispatches.encode_frame(action))


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
