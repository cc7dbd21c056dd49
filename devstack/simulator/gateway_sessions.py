"""
Sessions of the Gateway: their events, how long they can be resumed, and the limits of identifying.

Sources: developers/events/gateway.mdx (read 2026-08-06); the size of the replay buffer is discord-api-docs issue 24
(staff, 2016), and the life of a session without a connection was observed (issue 1619).
"""

import asyncio
import collections
import dataclasses
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

from devstack.simulator import clock, gateway_view, guilds, world

DAY = 86_400.0
NO_RESUME = frozenset({4003, 4004, 4007, 4009, 4010, 4011, 4012, 4013, 4014})
"""Close codes after which the session is gone."""


class Link(Protocol):
    """A connection."""

    def deliver(self, event: "Dispatch") -> None:
        """Queue an event."""

    def close(self, code: int) -> None:
        """Close the connection; 0 drops it without a code."""

    def reconnect(self) -> None:
        """Ask the client to reconnect."""

    def invalidate(self, *, resumable: bool) -> None:
        """Send op 9."""


@dataclasses.dataclass(frozen=True, slots=True)
class Dispatch:
    """An event with its number in the session."""

    seq: int
    name: str
    data: Any


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayOptions:
    """
    How the Gateway behaves.

    Attributes:
        heartbeat: Interval that HELLO asks for, in seconds.
        shards: Recommended number of shards.
        concurrency: Sessions that may be identified in each `identify_window` seconds.
        identifies: Identifies a day; beyond that all sessions end and the token is reset.
        identify_window: In seconds.
        session_life: Seconds for which a session without a connection can be resumed.
        members: Whether the intent GUILD_MEMBERS is granted.
        most_guilds: Guilds of one shard; with more, sharding is required.
    """

    heartbeat: float = 41.25
    shards: int = 1
    concurrency: int = 1
    identifies: int = 1_000
    identify_window: float = 5.0
    session_life: float = 90.0
    members: bool = False
    most_guilds: int = 2_500


@dataclasses.dataclass(slots=True)
class Faults:
    """
    Faults on demand; times are seconds of the simulator's clock.

    Attributes:
        silent_until: Until then nothing is sent on any connection, and heartbeats get no answer.
        stalled_until: Until then what is sent waits, and is sent afterwards.
        ack_delay, replay_delay: Seconds before each ACK, and before each replay.
        doubled: Share of the events that are sent twice.
        deaf: Sessions that get no event of a guild any more.
        refused_resumes: Resumes that are refused from now on; their sessions end.
        without_create: Guilds whose GUILD_CREATE is left out.
        outages: Guilds that are unavailable.
    """

    silent_until: float = 0.0
    stalled_until: float = 0.0
    ack_delay: float = 0.0
    replay_delay: float = 0.0
    doubled: float = 0.0
    deaf: set[str] = dataclasses.field(default_factory=set)
    refused_resumes: int = 0
    without_create: set[int] = dataclasses.field(default_factory=set)
    outages: set[int] = dataclasses.field(default_factory=set)


class Session:
    """One session: numbered events, of which the latest can be replayed."""

    def __init__(self, session_id: str, shard: tuple[int, int], intents: int, buffer: int) -> None:
        self.id = session_id
        self.shard = shard
        self.intents = intents
        self.seq = 0
        self.link: Link | None = None
        self.lost_at = 0.0
        self._sent: collections.deque[Dispatch] = collections.deque(maxlen=buffer)

    def covers(self, guild_id: int) -> bool:
        """Return whether the shard has the guild (developers/events/gateway.mdx, Sharding)."""
        return (guild_id >> 22) % self.shard[1] == self.shard[0]

    def dispatch(self, name: str, data: Any) -> None:  # noqa: ANN401 -- any JSON
        """Number an event, keep it for a replay, and send it if there is a connection."""
        self.seq += 1
        event = Dispatch(self.seq, name, data)
        self._sent.append(event)
        if self.link is not None:
            self.link.deliver(event)

    def missed(self, seq: int) -> list[Dispatch] | None:
        """Return the events after *seq*; None when some of them are no longer kept."""
        if seq > self.seq or (self._sent and seq < self._sent[0].seq - 1) or (not self._sent and seq < self.seq):
            return None
        return [event for event in self._sent if event.seq > seq]


class Hub:
    """All sessions of the bot, and what was done to and by them."""

    def __init__(self, simulated: world.World, time_source: clock.Clock, options: GatewayOptions, seed: int) -> None:
        self.options = options
        self.faults = Faults()
        self.sessions: dict[str, Session] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.violations: collections.Counter[str] = collections.Counter()
        self.links: set[Link] = set()
        self.rng = random.Random(f"{seed}/gateway")
        self._world = simulated
        self._clock = time_source
        self._identified: collections.deque[float] = collections.deque()
        self._by_key: dict[int, collections.deque[float]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def keep_running(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that outlives the connection that began it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def now(self) -> float:
        """Return the simulator's monotonic seconds."""
        return self._clock.monotonic()

    def is_held(self) -> bool:
        """Return whether a fault holds back what is sent."""
        return max(self.faults.silent_until, self.faults.stalled_until) > self.now()

    def limits(self) -> dict[str, Any]:
        """Return `session_start_limit` of GET /gateway/bot."""
        self._forget_old()
        left = max(0, self.options.identifies - len(self._identified))
        oldest = self._identified[0] if self._identified else self.now()
        return {
            "total": self.options.identifies,
            "remaining": left,
            "reset_after": int((oldest + DAY - self.now()) * 1000),
            "max_concurrency": self.options.concurrency,
        }

    def may_identify(self, shard_id: int) -> bool:
        """Count an identify; returns False for one that comes too fast. Beyond the daily limit, all sessions end."""
        now, key = self.now(), shard_id % self.options.concurrency
        recent = self._by_key.setdefault(key, collections.deque())
        while recent and now - recent[0] >= self.options.identify_window:
            recent.popleft()
        self._forget_old()
        self._identified.append(now)
        if len(self._identified) > self.options.identifies:
            self.violations["token_reset"] += 1
            for session in list(self.sessions.values()):
                self.end(session, 4004)
            return False
        if recent:
            self.violations["identify_too_fast"] += 1
            return False
        recent.append(now)
        return True

    def _forget_old(self) -> None:
        while self._identified and self.now() - self._identified[0] >= DAY:
            self._identified.popleft()

    def open(self, shard: tuple[int, int], intents: int) -> Session:
        """Return a new session."""
        self.counts["identifies"] += 1
        guild_count = len(self.guilds_of(shard))
        made = Session(f"{self.rng.getrandbits(128):032x}", shard, intents, max(100, min(3_500, 75 * guild_count)))
        self.sessions[made.id] = made
        return made

    def find(self, session_id: str) -> Session | None:
        """Return a session that can be resumed."""
        found = self.sessions.get(session_id)
        if found is not None and found.link is None and self.now() - found.lost_at > self.options.session_life:
            self.end(found, None)
            self.counts["sessions_expired"] += 1
            return None
        return found

    def end(self, session: Session, code: int | None) -> None:
        """End a session, and close its connection with a code if one is given."""
        self.sessions.pop(session.id, None)
        link, session.link = session.link, None
        if link is not None and code is not None:
            link.close(code)

    def detach(self, session: Session, link: Link) -> None:
        """Note that a session's connection is gone."""
        if session.link is link:
            session.link, session.lost_at = None, self.now()

    def guilds_of(self, shard: tuple[int, int]) -> list[guilds.Guild]:
        """Return the bot's guilds of a shard."""
        found = (self._world.guild(guild_id) for guild_id in self._world.bot_guilds())
        return [guild for guild in found if guild is not None and (guild.id >> 22) % shard[1] == shard[0]]

    def create_data(self, guild: guilds.Guild) -> Any | None:  # noqa: ANN401 -- JSON
        """Return the data of GUILD_CREATE; None when a fault leaves it out."""
        if guild.id in self.faults.without_create:
            return None
        return gateway_view.guild_create(self._world, guild, gateway_view.view(self._world, guild))

    def member(self, guild_id: int, user_id: int) -> Any | None:  # noqa: ANN401 -- JSON
        """Return a member for a chunk of op 8; None for a user who is none."""
        guild = self._world.guild(guild_id)
        return None if guild is None or not guild.has_bot else gateway_view.member(self._world, guild, user_id)

    def set_outage(self, guild_id: int, *, begins: bool) -> None:
        """Begin or end the outage of a guild."""
        guild = self._world.guild(guild_id)
        if guild is None or not guild.has_bot or begins == (guild_id in self.faults.outages):
            return
        if begins:
            self.faults.outages.add(guild_id)
            self.emit(guild_id, [gateway_view.Event("GUILD_DELETE", {"id": str(guild_id), "unavailable": True})])
            return
        self.faults.outages.discard(guild_id)
        data = self.create_data(guild)
        if data is not None:
            self.emit(guild_id, [gateway_view.Event("GUILD_CREATE", data)])

    def changing(self, guild_id: int) -> Callable[[], None]:
        """Remember a guild before a change; call the result after it to send the events."""
        guild = self._world.guild(guild_id)
        if guild is None or not self.sessions:
            return lambda: None
        before = gateway_view.view(self._world, guild)

        def changed() -> None:
            after = gateway_view.view(self._world, guild)
            told = list(gateway_view.events(self._world, guild, before, after))
            if guild_id in self.faults.outages:
                # A guild in an outage sends nothing; its GUILD_CREATE has everything.
                told = [event for event in told if event.name == "GUILD_DELETE"]
            self.emit(guild_id, told)

        return changed

    def emit(self, guild_id: int, told: list[gateway_view.Event]) -> None:
        """Send events of a guild to every session of its shards."""
        for session in self.sessions_of(guild_id):
            for event in told:
                if not session.intents & event.intent:
                    continue
                self.counts["events"] += 1
                if session.id in self.faults.deaf:
                    self.counts["events_lost"] += 1
                    continue
                session.dispatch(event.name, event.data)
                if self.rng.random() < self.faults.doubled:
                    session.dispatch(event.name, event.data)

    def sessions_of(self, guild_id: int) -> Iterator[Session]:
        """Return the sessions whose shard has a guild."""
        return (session for session in list(self.sessions.values()) if session.covers(guild_id))
