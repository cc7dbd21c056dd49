"""The protocol's state machine: what it sends, proves and does after every frame, close code and silence."""

import random

import hypothesis
import pytest
from hypothesis import strategies as st

from indexing.gateway import protocol

IDENTITY = protocol.Identity("secret", 1, 0, 1)
KNOWN = protocol.Session("s", "wss://resume", 7)
After = protocol.After


def hello(interval: float = 40.0) -> protocol.Frame:
    """Return HELLO."""
    return protocol.Frame(protocol.HELLO, {"heartbeat_interval": interval * 1000})


def ready(session: str = "s") -> protocol.Frame:
    """Return READY."""
    data = {"session_id": session, "resume_gateway_url": "wss://resume", "guild_ids": []}
    return protocol.Frame(protocol.DISPATCH, data, 1, "READY")


def opened(session: protocol.Session | None = None, now: float = 0.0) -> protocol.Connection:
    """Return a connection that was opened at *now*."""
    return protocol.Connection(IDENTITY, session, now, random.Random(1))


def attached(now: float = 0.0) -> protocol.Connection:
    """Return a connection whose session began at *now*."""
    connection = opened(now=now)
    connection.on_frame(hello(), now)
    connection.identify(now)
    connection.on_frame(ready(), now)
    return connection


def acked(connection: protocol.Connection, now: float) -> list[protocol.Action]:
    """Return what follows an ACK."""
    return connection.on_frame(protocol.Frame(protocol.ACK), now)


def closing(actions: list[protocol.Action]) -> protocol.Close:
    """Return the only action, which closes."""
    (found,) = actions
    assert isinstance(found, protocol.Close)
    return found


def test_identify_is_asked_for_when_there_is_no_session() -> None:
    """HELLO asks for permission; the identify is sent once it is given, and once only."""
    connection = opened()

    asked = connection.on_frame(hello(), 0.0)
    sent = connection.identify(1.0)

    assert asked == [protocol.AskIdentify()]
    assert [(send.op, send.data["shard"]) for send in sent if isinstance(send, protocol.Send)] == [(2, [0, 1])]
    assert connection.identify(2.0) == []


def test_the_session_is_resumed_when_one_is_known() -> None:
    """HELLO is answered by a resume with the number of the last event, without asking."""
    actions = opened(KNOWN).on_frame(hello(), 0.0)

    assert actions == [protocol.Send(6, {"token": "secret", "session_id": "s", "seq": 7})]
    assert "secret" not in repr(actions)


def test_the_session_begins_at_the_identify_when_ready_arrives() -> None:
    """What GUILD_CREATE says is later than the identify."""
    connection = opened()
    connection.on_frame(hello(), 0.0)
    connection.identify(3.0)

    (began,) = connection.on_frame(ready(), 9.0)

    assert isinstance(began, protocol.Ready)
    assert (began.asked_at, began.session) == (3.0, protocol.Session("s", "wss://resume", 1))


def test_an_ack_proves_its_own_heartbeat_when_two_are_under_way() -> None:
    """ACKs have no number: each is credited to the oldest heartbeat without one."""
    connection = attached(0.0)
    first = connection.due
    connection.on_time(first)
    connection.on_frame(protocol.Frame(protocol.DISPATCH, None, 2, "X"), first + 1)
    second = connection.due
    connection.on_time(second)

    assert acked(connection, second + 1) == [protocol.Proof(first)]
    assert acked(connection, second + 2) == [protocol.Proof(second)]


def test_an_ack_proves_nothing_when_its_heartbeat_preceded_the_replay() -> None:
    """A heartbeat sent before RESUMED says nothing about the session's events."""
    connection = opened(KNOWN)
    connection.on_frame(hello(), 0.0)
    connection.on_frame(protocol.Frame(protocol.HEARTBEAT), 1.0)
    resumed = connection.on_frame(protocol.Frame(protocol.DISPATCH, None, 8, "RESUMED"), 2.0)

    assert resumed == [protocol.Resumed(), protocol.Send(1, 7)]
    assert acked(connection, 3.0) == []
    assert acked(connection, 3.5) == [protocol.Proof(2.0)]


def test_the_connection_is_closed_when_nothing_answers_a_heartbeat() -> None:
    """A silent connection is closed with a code that keeps the session."""
    connection = attached(0.0)
    connection.on_time(connection.due)

    closed = closing(connection.on_time(connection.due))

    assert (closed.after, closed.code, closed.reason) == (After.RESUME, 4900, "no_ack")


def test_a_flood_without_acks_ends_when_four_heartbeats_are_unanswered() -> None:
    """Frames keep a connection for three heartbeats without an ACK, not forever: nothing would be proven."""
    connection = attached(0.0)
    for number in range(2, 6):
        assert not isinstance(connection.on_time(connection.due)[0], protocol.Close)
        connection.on_frame(protocol.Frame(protocol.DISPATCH, None, number, "X"), connection.due - 1)

    assert closing(connection.on_time(connection.due)).reason == "no_ack"


@pytest.mark.parametrize(
    ("frame", "after"),
    [
        (protocol.Frame(protocol.RECONNECT), After.RESUME),
        (protocol.Frame(protocol.INVALID, data=True), After.RESUME),
        (protocol.Frame(protocol.INVALID, data=False), After.IDENTIFY),
    ],
)
def test_the_connection_is_closed_when_discord_asks_for_it(frame: protocol.Frame, after: protocol.After) -> None:
    """Op 7 and op 9 say whether the session can be resumed."""
    assert closing(attached().on_frame(frame, 1.0)).after is after


@pytest.mark.parametrize(
    ("code", "after"),
    [(code, After.STOP) for code in (4004, 4010, 4011, 4012, 4013, 4014)]
    + [(code, After.IDENTIFY) for code in (4003, 4007, 4009)]
    + [(code, After.RESUME) for code in (None, 1000, 1006, 4000, 4001, 4002, 4005, 4008)],
)
def test_close_codes_decide_what_follows(code: int | None, after: protocol.After) -> None:
    """Discord's table of close codes, and a lost connection."""
    assert attached().on_closed(code) is after


def test_nothing_is_identified_when_the_permission_has_expired() -> None:
    """The connection ends, and the next one asks again."""
    connection = opened()
    connection.on_frame(hello(), 0.0)

    ended = closing(connection.give_up("permit_expired"))

    assert (ended.code, ended.after, ended.reason) == (protocol.OUR_CLOSE, After.IDENTIFY, "permit_expired")
    assert not connection.asked
    assert connection.identify(6.0) == []


def test_a_new_session_is_identified_when_three_resumes_failed() -> None:
    """A dead session is sometimes closed without a code, over and over."""
    reconnects, rng = protocol.Reconnects(KNOWN), random.Random(1)
    for _ in range(3):
        assert reconnects.session is KNOWN
        connection = opened(reconnects.session)
        reconnects.ended(connection, connection.on_closed(None), 0.0, rng)

    assert reconnects.session is None


FRAMES = st.sampled_from(
    [
        hello(),
        ready(),
        ready("other"),
        protocol.Frame(protocol.ACK),
        protocol.Frame(protocol.HEARTBEAT),
        protocol.Frame(protocol.RECONNECT),
        protocol.Frame(protocol.INVALID, data=True),
        protocol.Frame(protocol.INVALID, data=False),
        protocol.Frame(protocol.DISPATCH, None, 8, "RESUMED"),
        protocol.Frame(99),
        *(protocol.Frame(protocol.DISPATCH, None, seq, "X") for seq in range(1, 12)),
    ]
)
STEPS = st.lists(st.one_of(FRAMES, st.just("time"), st.just("permit"), st.integers(4000, 4014), st.just("drop")))


class Play:
    """Carries out what the state machine wants, as a driver does, and checks it."""

    def __init__(self) -> None:
        self.reconnects, self.rng, self.now = protocol.Reconnects(), random.Random(1), 0.0
        self.connection = opened()
        self.permits = self.delivered = 0
        self.beats: list[float] = []

    def step(self, step: object) -> bool:
        """Play one step; returns False when Discord asks not to come back."""
        self.now += 1.0
        after: protocol.After | None = None
        pause = 0.0
        for action in self.actions(step):
            self.check(action)
            if isinstance(action, protocol.Close):
                after, pause = action.after, action.pause
        if isinstance(step, int) or step == "drop":
            after = self.connection.on_closed(step if isinstance(step, int) else None)
        if after is not None and after is not After.STOP:
            self.reconnect(after, pause)
        return after is not After.STOP

    def actions(self, step: object) -> list[protocol.Action]:
        """Return the actions after a step."""
        if isinstance(step, protocol.Frame):
            return self.connection.on_frame(step, self.now)
        if step == "time":
            self.now = max(self.now, self.connection.due)
            return self.connection.on_time(self.now)
        if step == "permit" and self.permits:
            self.permits = 0
            assert self.reconnects.session is None
            return self.connection.identify(self.now)
        return []

    def check(self, action: protocol.Action) -> None:
        """Check one action."""
        if isinstance(action, protocol.AskIdentify):
            self.permits = 1
        elif isinstance(action, protocol.Send):
            assert action.op in {protocol.HEARTBEAT, protocol.RESUME, protocol.IDENTIFY}
            if action.op == protocol.HEARTBEAT and self.connection.attached:
                self.beats.append(self.now)
        elif isinstance(action, protocol.Deliver):
            assert action.seq > self.delivered
            self.delivered = action.seq
        elif isinstance(action, protocol.Ready):
            self.delivered = action.session.seq
        elif isinstance(action, protocol.Proof):
            assert action.at in self.beats

    def reconnect(self, after: protocol.After, pause: float) -> None:
        """Open the next connection."""
        waited = self.reconnects.ended(self.connection, after, pause, self.rng)
        assert 0.0 < waited <= 1.5 * protocol.MOST_BACKOFF
        self.now += waited
        self.connection, self.permits = opened(self.reconnects.session, self.now), 0
        self.delivered = self.reconnects.session.seq if self.reconnects.session else 0
        self.beats.clear()


@hypothesis.given(STEPS)
def test_no_session_is_identified_without_a_permit_whatever_happens(steps: list[object]) -> None:
    """
    Over any frames, silences and drops: one identify for each permit, none while a session can be resumed, event
    numbers that only grow, and proofs only of heartbeats that were sent while attached.
    """
    play = Play()
    for step in steps:
        if not play.step(step):
            return
