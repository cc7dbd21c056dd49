"""
The protocol of one connection to the Gateway, and what follows its end: a state machine without I/O.

The driver passes frames and moments in and carries out the returned actions. Facts are from
developers/events/gateway.mdx and topics/opcodes-and-status-codes.mdx (read 2026-08-06).

A proof is a moment up to which the session is complete: everything that Discord sent before it has been received. An
ACK carries no number, so it is credited to the oldest heartbeat without one, and a heartbeat that was sent before READY
or RESUMED proves nothing about the session: at Discord, its replay may come after the answer to a heartbeat.
"""

import collections
import dataclasses
import enum
import random
from typing import Any, TypeAlias

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, REQUEST_MEMBERS, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 8, 9, 10, 11
OUR_CLOSE = 4900
"""Close code that we send: with 1000 or 1001 the session would end."""
END_SESSION = 1000
FATAL = frozenset({4004, *range(4010, 4015)})
"""Close codes after which Discord asks not to reconnect."""
NEW_SESSION = frozenset({4003, 4007, 4009})
"""Close codes after which the session cannot be resumed."""
MOST_FAILED_RESUMES = 3
"""Resumes in a row that may fail: a dead session is sometimes closed without a code (discord-api-docs issue 1619)."""
MOST_UNANSWERED = 3
"""Heartbeats without ACK while other frames arrive: a flood of events may delay ACKs (discordeno issue 2311)."""
HELLO_WAIT = 10.0
ATTACH_WAIT = 60.0
"""Longest silence, in seconds, before HELLO, and before READY or RESUMED."""
MOST_BACKOFF = 60.0
DROP_PAUSE = (0.05, 0.25)
"""Seconds to wait after the end of a good connection, drawn at random."""
INVALID_PAUSE = (1.0, 5.0)
"""Seconds to wait after op 9, drawn at random."""


class After(enum.Enum):
    """What to do after a connection."""

    RESUME = "resume"
    IDENTIFY = "identify"
    STOP = "stop"


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """A session that can be resumed at an address, after an event number."""

    id: str
    url: str
    seq: int


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What we identify with."""

    token: str = dataclasses.field(repr=False)
    intents: int
    shard_id: int
    shard_count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A received frame; `data` is decoded, for a dispatch it is what the driver wants to keep."""

    op: int
    data: Any = None
    seq: int | None = None
    name: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send a frame."""

    op: int
    data: Any = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class AskIdentify:
    """Get permission to identify, then call `Connection.identify`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Deliver:
    """Pass an event on."""

    seq: int
    name: str
    data: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """A session began; what its events say is later than `asked_at`."""

    session: Session
    data: Any
    asked_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Resumed:
    """The session continues; everything that was missed has been passed on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """The session is complete up to this moment, once everything passed on before is stored."""

    at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Close:
    """Close the connection with this code; `pause` is the least wait before the next one, in seconds."""

    code: int
    after: After
    reason: str
    pause: float = 0.0


Action: TypeAlias = Send | AskIdentify | Deliver | Ready | Resumed | Proof | Close


class Connection:
    """
    One connection. It shares nothing with the next one.

    Args:
        identity: What to identify with.
        session: The session to resume; None to identify.
        now: When the connection was opened; all moments are of one clock, in seconds.

    Attributes:
        attached: Whether READY or RESUMED has arrived.
        due: When `on_time` must be called at the latest.
    """

    def __init__(self, identity: Identity, session: Session | None, now: float, rng: random.Random) -> None:
        self._identity = identity
        self._rng = rng
        self.session = session
        self.attached = False
        self.due = now + HELLO_WAIT
        self._resumes = session is not None
        self._interval = 0.0
        self._beats: collections.deque[float | None] = collections.deque()
        self._beat_at = now
        self._heard_at = now
        self._asked_at: float | None = None
        self._closed = False

    @property
    def asked(self) -> bool:
        """Whether an identify was returned to be sent."""
        return self._asked_at is not None

    def on_frame(self, frame: Frame, now: float) -> list[Action]:
        """Return the actions after a frame."""
        if self._closed:
            return []
        self._heard_at = now
        if frame.op == DISPATCH:
            return self._on_dispatch(frame, now)
        if frame.op == ACK:
            return self._on_ack()
        if frame.op == HELLO:
            return self._on_hello(frame, now)
        return [self._beat(now)] if frame.op == HEARTBEAT else self._on_order(frame)

    def _on_order(self, frame: Frame) -> list[Action]:
        """Return the actions after op 7 or 9; unknown operations have none."""
        if frame.op == RECONNECT:
            return self._close(After.RESUME, "reconnect")
        if frame.op == INVALID:
            after = After.RESUME if frame.data is True and self.session is not None else After.IDENTIFY
            return self._close(after, "invalid_session", pause=self._rng.uniform(*INVALID_PAUSE))
        return []

    def on_time(self, now: float) -> list[Action]:
        """Return the actions at a moment: a heartbeat, or the end of a connection that is dead."""
        if self._closed or now < self.due:
            return []
        if not self._interval:
            return self._close(After.RESUME, "no_hello")
        if not self.attached and now - max(self._heard_at, self._asked_at or 0.0) > ATTACH_WAIT:
            return self._close(After.RESUME, "not_attached")
        if self._beats and (self._heard_at < self._beat_at or len(self._beats) > MOST_UNANSWERED):
            return self._close(After.RESUME, "no_ack")
        return [self._beat(now)]

    def identify(self, now: float) -> list[Action]:
        """Return the identify, once it is permitted."""
        if self._closed or self._resumes or self._asked_at is not None:
            return []
        self._asked_at = now
        shard = [self._identity.shard_id, self._identity.shard_count]
        properties = {"os": "linux", "browser": "discord-channel-indexer", "device": "discord-channel-indexer"}
        data = {"token": self._identity.token, "intents": self._identity.intents, "shard": shard}
        return [Send(IDENTIFY, data | {"properties": properties, "large_threshold": 50})]

    def end_session(self, reason: str) -> list[Action]:
        """Return the end of the session, so that a new one is identified."""
        return [] if self._closed else self._close(After.IDENTIFY, reason, code=END_SESSION)

    def give_up(self, reason: str) -> list[Action]:
        """Return the end of the connection before anything was identified."""
        return [] if self._closed else self._close(After.RESUME, reason)

    def on_closed(self, code: int | None) -> After:
        """Return what to do after Discord, or the network, closed the connection."""
        self._closed = True
        if code in FATAL:
            return After.STOP
        return After.IDENTIFY if code in NEW_SESSION or self.session is None else After.RESUME

    def rewind(self, seq: int | None) -> None:
        """Go back to the last event that the driver has passed on; None if it has not even passed on READY."""
        if self.session is not None:
            self.session = None if seq is None else dataclasses.replace(self.session, seq=seq)

    def _on_hello(self, frame: Frame, now: float) -> list[Action]:
        if self._interval:
            return []
        self._interval = max(1e-3, float(frame.data["heartbeat_interval"]) / 1000)
        self._beat_at = now
        self.due = now + self._interval * self._rng.random()
        if self.session is None:
            return [AskIdentify()]
        data = {"token": self._identity.token, "session_id": self.session.id, "seq": self.session.seq}
        return [Send(RESUME, data)]

    def _on_dispatch(self, frame: Frame, now: float) -> list[Action]:
        seq = frame.seq or 0
        if frame.name == "READY":
            if self._asked_at is None or self.attached:
                return []
            self.session = Session(str(frame.data["session_id"]), str(frame.data["resume_gateway_url"]), seq)
            self.attached = True
            return [Ready(self.session, frame.data, self._asked_at)]
        if self.session is None:
            return []
        if frame.name == "RESUMED":
            self.attached = True
            # A heartbeat now, so that the time without a connection is proven soon.
            return [Resumed(), self._beat(now)]
        if seq <= self.session.seq:
            return []
        self.session = dataclasses.replace(self.session, seq=seq)
        return [Deliver(seq, frame.name or "", frame.data)]

    def _on_ack(self) -> list[Action]:
        at = self._beats.popleft() if self._beats else None
        return [] if at is None else [Proof(at)]

    def _beat(self, now: float) -> Send:
        self._beats.append(now if self.attached else None)
        self._beat_at = now
        if self._interval:
            self.due = now + self._interval
        return Send(HEARTBEAT, self.session.seq if self.session is not None else None)

    def _close(self, after: After, reason: str, *, pause: float = 0.0, code: int = OUR_CLOSE) -> list[Action]:
        self._closed = True
        if self.session is None and after is After.RESUME:
            after = After.IDENTIFY
        return [Close(code, after, reason, pause)]


@dataclasses.dataclass(slots=True)
class Reconnects:
    """
    What to do between the connections of a shard.

    Attributes:
        session: The session to resume; None when the next connection identifies.
        failures: Connections in a row that did not reach READY or RESUMED.
    """

    session: Session | None = None
    failures: int = 0
    _failed_resumes: int = 0

    def ended(self, connection: Connection, after: After, pause: float, rng: random.Random) -> float:
        """Note the end of a connection; returns the seconds to wait before the next one."""
        resumed = self.session is not None
        self.session = connection.session if after is After.RESUME else None
        if connection.attached:
            self.failures = self._failed_resumes = 0
            return max(pause, rng.uniform(*DROP_PAUSE))
        self.failures += 1
        if resumed:
            self._failed_resumes += 1
            if self._failed_resumes >= MOST_FAILED_RESUMES:
                self.session, self._failed_resumes = None, 0
        backoff = min(MOST_BACKOFF, 2.0 ** (self.failures - 1)) * rng.uniform(0.5, 1.5)
        return max(pause, backoff)
