"""
Dramatiq's broker, made safe for outages, failovers and wrong clocks.

It records a heartbeat of each consumer, which tells a consumer that hangs from one that is idle.
"""

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dramatiq
import dramatiq.common
import redis.exceptions
from dramatiq.brokers.redis import RedisBroker

from indexing import settings
from indexing.domain import turns
from indexing.messaging import redis_client, redis_errors
from indexing.telemetry import logs

HEARTBEAT_MS = 30_000
"""Age of a process's last heartbeat after which Dramatiq counts it as dead."""
POLL_MS = 100
"""
Longest pause between two polls of an empty queue, which another process may have filled. What this process enqueues
ends the pause: it releases the turns that it has found due.
"""
UNUSED_POLL_MS = 1_000
"""The same for Dramatiq's queue of delayed messages, which is not used."""
FIRST_POLL_MS = 5
"""Pause after the first poll that found nothing; each further one is twice as long."""
WORKER = "worker-"
"""Prefix of the broker ids of workers. Processes that only enqueue send heartbeats too."""

DISPATCH_CLOCK = b"""
-- The caller's time is replaced by Redis' own, so that a worker whose clock is wrong does not count others as dead.
local server_time = redis.call('TIME')
ARGV[2] = string.format('%.0f', server_time[1] * 1000 + math.floor(server_time[2] / 1000))
"""
"""Goes before Dramatiq's script, whose second argument is the time in ms."""


REPEATED_LINES = ("Consumer encountered a connection error", "Restarting consumer")


class Broker(RedisBroker):
    """
    Dramatiq's Redis broker, with a heartbeat for each consumer.

    Every failure of Redis is a broken connection to Dramatiq, which then repeats an acknowledgement until it succeeds.
    It would log any other error as a bug of its own and leave the message in the set of unacknowledged ones.
    """

    def __init__(self, *, pauses: tuple[int, int] = (FIRST_POLL_MS, POLL_MS), **options: Any) -> None:  # noqa: ANN401 -- Dramatiq's
        """*pauses* are the shortest and the longest between two polls, in milliseconds; *options* are Dramatiq's."""
        self._pauses = pauses
        super().__init__(**options)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        dispatch: Any = self.scripts["dispatch"].script
        self.scripts["dispatch"] = self.client.register_script(DISPATCH_CLOCK + dispatch)
        self.last_heartbeat: dict[str, float] = {}
        """Monotonic time of the last heartbeat of each queue's consumer, in seconds."""
        self._arrivals: dict[str, threading.Event] = collections.defaultdict(threading.Event)
        """Set when this process has enqueued a message."""
        self._held: dict[str, set[str]] = {}
        """Ids of the messages that this process has of each queue and has not acknowledged."""
        self._log = logs.get(__name__)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """Return a consumer, which polls an empty queue every *timeout* milliseconds, or more often."""

        def record_heartbeat() -> None:
            self.last_heartbeat[queue_name] = time.monotonic()

        held = self._held.setdefault(queue_name, set())
        # Dramatiq's consumer would sleep for its timeout; this one waits itself.
        consumer = super().consume(queue_name, prefetch, 1)
        shortest, longest = self._pauses if queue_name in turns.QUEUES else (UNUSED_POLL_MS, UNUSED_POLL_MS)
        wait = _Wait(self._arrivals[queue_name], shortest, min(timeout, longest))
        return _Consumer(consumer, record_heartbeat, held, lambda: self._return_lost(queue_name, held), wait)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Enqueue a message, and have this process's consumer look for it at once."""
        enqueued = super().enqueue(message, delay=delay)
        self._arrivals[enqueued.queue_name].set()
        return enqueued

    def _return_lost(self, queue_name: str, held: set[str]) -> None:
        """Return messages to the queue that Redis gave to this process in a reply that was lost."""
        unacknowledged: Any = self.client.smembers(f"{self.namespace}:__acks__.{self.broker_id}.{queue_name}")
        lost = [message_id for message_id in unacknowledged if message_id.decode() not in held]
        if lost:
            self.do_requeue(queue_name, *lost)
            self._log.warning("lost_messages_returned", queue=queue_name, messages=len(lost))


class _Wait:
    """The pauses between polls of one consumer."""

    def __init__(self, arrival: threading.Event, shortest_ms: int, longest_ms: int) -> None:
        self._arrival = arrival
        self._shortest_ms, self._longest_ms = shortest_ms, longest_ms
        self._next_ms = shortest_ms

    def reset(self) -> None:
        """Begin with short pauses, because there was a message."""
        self._next_ms = self._shortest_ms

    def wait(self) -> None:
        """Pause, or return at once when a message has arrived since the last pause."""
        pause_ms = min(self._next_ms, self._longest_ms)
        self._next_ms = 2 * pause_ms
        if self._arrival.wait(pause_ms / 1000):
            self._arrival.clear()


class _Consumer(dramatiq.Consumer):
    """
    Records a heartbeat before each poll, and raises every failure of Redis as dramatiq.ConnectionClosed.

    Dramatiq makes a new consumer after a failure, so a consumer looks for lost messages before its first poll.
    """

    def __init__(
        self,
        consumer: dramatiq.Consumer,
        record_heartbeat: Callable[[], None],
        held: set[str],
        return_lost: Callable[[], None],
        wait: _Wait,
    ) -> None:
        self._consumer = consumer
        self._record_heartbeat = record_heartbeat
        self._held = held
        self._return_lost: Callable[[], None] | None = return_lost
        self._wait = wait
        record_heartbeat()

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Poll for a message."""
        self._record_heartbeat()
        with _failures_as_closed_connections():
            if self._return_lost is not None:
                self._return_lost()
                self._return_lost = None
            message = next(self._consumer)
        if message is None:
            self._wait.wait()
        else:
            self._wait.reset()
            self._held.add(message.options["redis_message_id"])
        return message

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Acknowledge a message."""
        with _failures_as_closed_connections():
            self._consumer.ack(message)
        self._held.discard(message.options["redis_message_id"])

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Move a message to the dead letters."""
        with _failures_as_closed_connections():
            self._consumer.nack(message)
        self._held.discard(message.options["redis_message_id"])

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Return messages to the queue."""
        returned = list(messages)
        with _failures_as_closed_connections():
            self._consumer.requeue(returned)
        self._held.difference_update(message.options["redis_message_id"] for message in returned)

    def close(self) -> None:
        """Delegate."""
        self._consumer.close()


@contextlib.contextmanager
def _failures_as_closed_connections() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        text = f"Redis {redis_errors.diagnose(error).text}"
        raise dramatiq.ConnectionClosed(text) from error  # type: ignore[no-untyped-call]  # untyped there


def make_broker(config: settings.RedisSettings, middleware: list[dramatiq.Middleware]) -> Broker:
    """
    Return a broker with the product's queues declared.

    Maintenance on 10 % of the commands and a heartbeat timeout of 30 s return the messages of a killed worker to the
    queue within about a minute.
    """
    broker = Broker(
        client=redis_client.open_threaded_client(config),
        middleware=middleware,
        maintenance_chance=100_000,
        heartbeat_timeout=HEARTBEAT_MS,
    )
    for queue in turns.QUEUES:
        broker.declare_queue(queue)
        for name in (queue, dramatiq.common.dq_name(queue)):
            logging.getLogger(f"dramatiq.worker.ConsumerThread({name})").addFilter(_is_no_repetition)
    return broker


def _is_no_repetition(record: logging.LogRecord) -> bool:
    """Drop what each consumer says every three seconds while Redis is away; the watch of Redis says it once."""
    return not str(record.msg).startswith(REPEATED_LINES)
