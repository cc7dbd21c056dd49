"""
The Gateway's websocket: hello, heartbeats, identify, resume, events, and what Discord refuses.

Sources: developers/events/gateway.mdx, gateway-events.mdx, topics/opcodes-and-status-codes.mdx (read 2026-08-06).
"""

import asyncio
import collections
import contextlib
import zlib
from collections.abc import Coroutine
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from devstack.simulator import gateway_sessions, gateway_view, state

PATH = "/gateway"
DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, MEMBERS, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 8, 9, 10, 11
MOST_SENDS, SENDS_WINDOW = 120, 60.0
"""Events a client may send in 60 s on one connection, heartbeats included."""
MOST_USER_IDS = 100
HELD_CHECK = 0.05
"""Seconds between two checks whether a fault still holds back what is sent."""
PRIVILEGED = 1 << 1 | 1 << 8 | 1 << 15
KNOWN_INTENTS = (1 << 26) - 1


class Gateway:
    """Serves websockets of one simulator."""

    def __init__(self, simulator: state.SimulatorState) -> None:
        self._simulator = simulator

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        socket = web.WebSocketResponse(max_msg_size=4096, autoping=True)
        await socket.prepare(request)
        connection = Connection(socket, self._simulator, f"ws://{request.host}{PATH}")
        if request.query.get("v") != "10" or request.query.get("encoding") != "json":
            await socket.close(code=4012)
            return socket
        connection.compressed = request.query.get("compress") == "zlib-stream"
        await connection.serve()
        return socket


class Connection:
    """One websocket. Nothing of it is shared with the next one of the same session."""

    def __init__(self, socket: web.WebSocketResponse, simulator: state.SimulatorState, url: str) -> None:
        self.compressed = False
        self._socket = socket
        self._hub = simulator.gateway
        self._tokens = simulator.tokens
        self._bot_id = simulator.world.bot_id
        self._url = url
        self._session: gateway_sessions.Session | None = None
        self._out: asyncio.Queue[dict[str, Any] | int] = asyncio.Queue()
        self._sends: collections.deque[float] = collections.deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat_at = self._hub.now()
        self._deflate = zlib.compressobj()
        self._resumed_from = 0
        self._closing = False

    async def serve(self) -> None:
        """Serve until the client or a fault ends the connection."""
        self._hub.links.add(self)
        writing = self._spawn(self._write())
        self._spawn(self._watch_heartbeats())
        self._send(HELLO, {"heartbeat_interval": int(self._hub.options.heartbeat * 1000)})
        try:
            async for message in self._socket:
                if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    break
                self._receive(message.data)
            if self._closing:
                # aiohttp ends the loop above before the close frame is sent.
                await asyncio.wait({writing}, timeout=1.0)
        finally:
            self._hub.links.discard(self)
            for task in self._tasks:
                task.cancel()
            self._ended()

    def deliver(self, event: gateway_sessions.Dispatch) -> None:
        """Queue an event."""
        self._out.put_nowait({"op": DISPATCH, "s": event.seq, "t": event.name, "d": event.data})

    def close(self, code: int) -> None:
        """Close after what is queued; 0 drops the connection at once, without a code."""
        if code == 0:
            transport = self._socket._req.transport if self._socket._req else None  # noqa: SLF001 -- no public way
            if transport is not None:
                transport.abort()
            return
        self._hub.counts[f"closed_{code}"] += 1
        if code in gateway_sessions.NO_RESUME and self._session is not None:
            session, self._session = self._session, None
            self._hub.end(session, None)
        self._out.put_nowait(code)

    def reconnect(self) -> None:
        """Ask the client to reconnect."""
        self._send(RECONNECT, None)

    def invalidate(self, *, resumable: bool) -> None:
        """Send op 9; without *resumable* the session is gone."""
        if not resumable and self._session is not None:
            session, self._session = self._session, None
            self._hub.end(session, None)
        self._send(INVALID, resumable)

    def _ended(self) -> None:
        session = self._session
        if session is None:
            return
        if self._socket.close_code in {1000, 1001} and session.link is self and not self._closing:
            # The client ended the session on purpose.
            self._hub.counts["sessions_closed_by_client"] += 1
            self._hub.end(session, None)
        self._hub.detach(session, self)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _send(self, op: int, data: Any) -> None:  # noqa: ANN401 -- JSON
        self._out.put_nowait({"op": op, "s": None, "t": None, "d": data})

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                frame = await self._out.get()
                while self._hub.is_held():  # noqa: ASYNC110 -- until a moment that a fault may move
                    await asyncio.sleep(HELD_CHECK)
                if isinstance(frame, int):
                    self._closing = True
                    await self._socket.close(code=frame)
                    return
                body = msgspec.json.encode(frame)
                if not self.compressed:
                    await self._socket.send_str(body.decode())
                    continue
                packed = self._deflate.compress(body) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
                await self._socket.send_bytes(packed)

    async def _watch_heartbeats(self) -> None:
        interval = self._hub.options.heartbeat
        while self._hub.now() - self._beat_at < 2 * interval:  # noqa: ASYNC110 -- each beat moves the moment
            await asyncio.sleep(interval / 4)
        self._hub.violations["no_heartbeat"] += 1
        self._hub.counts["sessions_ended"] += self._session is not None
        self.close(4009)

    def _receive(self, text: str | bytes) -> None:
        now = self._hub.now()
        self._sends.append(now)
        while now - self._sends[0] >= SENDS_WINDOW:
            self._sends.popleft()
        if len(self._sends) > MOST_SENDS:
            self._hub.violations["too_many_sends"] += 1
            self.close(4008)
            return
        try:
            frame = msgspec.json.decode(text)
            op, data = frame["op"], frame.get("d")
        except (msgspec.DecodeError, KeyError, TypeError):
            self._hub.violations["unreadable"] += 1
            self.close(4002)
            return
        self._hub.counts[f"op_{op}"] += 1
        if op == HEARTBEAT:
            self._beat_at = now
            self._spawn(self._acknowledge())
        elif op == IDENTIFY:
            self._identify(data)
        elif op == RESUME:
            self._resume(data)
        elif op == MEMBERS:
            self._members(data)
        else:
            self._hub.violations["unknown_op"] += 1
            self.close(4001)

    async def _acknowledge(self) -> None:
        faults = self._hub.faults
        if faults.silent_until > self._hub.now():
            return
        if faults.ack_delay:
            await asyncio.sleep(faults.ack_delay)
        self._send(ACK, None)

    def _identify(self, data: dict[str, Any]) -> None:
        refusal = self._refusal(data)
        if self._session is not None:
            refusal = 4005
        if refusal:
            self._hub.counts["identifies_refused"] += 1
            self.close(refusal)
            return
        shard = tuple(data.get("shard") or (0, 1))
        if not self._hub.may_identify(shard[0]):
            self._send(INVALID, data=False)
            return
        session = self._session = self._hub.open((shard[0], shard[1]), data["intents"])
        session.link = self
        rows = self._hub.guilds_of(session.shard)
        session.dispatch(
            "READY",
            {
                "v": 10,
                "user": {"id": str(self._bot_id), "username": "indexer", "bot": True},
                "guilds": [{"id": str(guild.id), "unavailable": True} for guild in rows],
                "session_id": session.id,
                "resume_gateway_url": self._url,
                "shard": list(session.shard),
                "application": {"id": str(self._bot_id), "flags": 0},
            },
        )
        # The session sends its guilds also while no connection holds it.
        self._hub.keep_running(self._create_guilds(session, [guild.id for guild in rows]))

    async def _create_guilds(self, session: gateway_sessions.Session, guild_ids: list[int]) -> None:
        rows = {guild.id: guild for guild in self._hub.guilds_of(session.shard)}
        for guild_id in guild_ids:
            guild = rows.get(guild_id)
            if guild is None or not guild.has_bot or session.id not in self._hub.sessions:
                continue
            if guild_id in self._hub.faults.outages:
                session.dispatch("GUILD_DELETE", {"id": str(guild_id), "unavailable": True})
                continue
            data = self._hub.create_data(guild)
            if data is not None:
                session.dispatch("GUILD_CREATE", data)
            await asyncio.sleep(0)

    def _refusal(self, data: dict[str, Any]) -> int:
        """Return the close code of an identify that Discord refuses; 0 for one that it accepts."""
        try:
            token, intents, shard = data["token"], data["intents"], data.get("shard") or (0, 1)
            valid = 0 <= int(shard[0]) < int(shard[1])
        except (KeyError, TypeError, ValueError, IndexError):
            return 4002
        if not self._tokens.is_bot(token):
            return 4004
        if not valid:
            return 4010
        if len(self._hub.guilds_of((int(shard[0]), int(shard[1])))) > self._hub.options.most_guilds:
            return 4011
        if not isinstance(intents, int) or intents & ~KNOWN_INTENTS:
            return 4013
        granted = gateway_view.GUILD_MEMBERS if self._hub.options.members else 0
        return 4014 if intents & PRIVILEGED & ~granted else 0

    def _resume(self, data: dict[str, Any]) -> None:
        if self._session is not None or not self._tokens.is_bot(str(data.get("token"))):
            self.close(4005 if self._session is not None else 4004)
            return
        found = self._hub.find(str(data.get("session_id")))
        missed = None if found is None else found.missed(int(data.get("seq") or 0))
        if self._hub.faults.refused_resumes > 0:
            self._hub.faults.refused_resumes -= 1
            if found is not None:
                self._hub.end(found, None)
                self._hub.counts["sessions_ended"] += 1
            missed = None
        if found is None or missed is None:
            if found is not None and found.id in self._hub.sessions:
                # The events that were missed are no longer kept.
                self._hub.counts["sessions_ended"] += 1
                self._hub.end(found, 0)
            self._hub.counts["resumes_refused"] += 1
            self._send(INVALID, data=False)
            return
        if found.link is not None:
            found.link.close(0)
        self._hub.counts["resumes"] += 1
        self._hub.counts["replayed"] += len(missed)
        self._session = found
        self._resumed_from = int(data.get("seq") or 0)
        self._spawn(self._replay(found))

    async def _replay(self, session: gateway_sessions.Session) -> None:
        if self._hub.faults.replay_delay:
            await asyncio.sleep(self._hub.faults.replay_delay)
        for event in session.missed(self._resumed_from) or ():
            self.deliver(event)
        session.link = self
        self._send_dispatch("RESUMED", {})

    def _send_dispatch(self, name: str, data: dict[str, Any]) -> None:
        seq = self._session.seq if self._session is not None else None
        self._out.put_nowait({"op": DISPATCH, "s": seq, "t": name, "d": data})

    def _members(self, data: dict[str, Any]) -> None:
        session = self._session
        if session is None:
            self.close(4003)
            return
        wanted = [str(user_id) for user_id in data.get("user_ids") or ()]
        if not wanted and not session.intents & gateway_view.GUILD_MEMBERS:
            self._hub.violations["whole_list_without_intent"] += 1
            self.close(4014)
            return
        if len(wanted) > MOST_USER_IDS:
            self._hub.violations["too_many_user_ids"] += 1
            self.close(4002)
            return
        guild_id = int(data["guild_id"])
        found = {user_id: self._hub.member(guild_id, int(user_id)) for user_id in wanted}
        chunk = {
            "guild_id": str(guild_id),
            "members": [row for row in found.values() if row is not None],
            "not_found": [user_id for user_id, row in found.items() if row is None],
            "chunk_index": 0,
            "chunk_count": 1,
            "nonce": data.get("nonce"),
        }
        session.dispatch("GUILD_MEMBERS_CHUNK", chunk)
