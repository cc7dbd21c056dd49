"""
Dramatiq's broker, made safe for outages, failovers and wrong clocks.

It records a heartbeat of each consumer, which tells a consumer that hangs from one that is idle.
"""

import contextlib
import logging
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
Longest pause between two polls of an empty queue. Dramatiq's own setting also wakes every idle thread as often, which
takes 3 % of a core with 128 threads.
"""
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

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- Dramatiq's
        super().__init__(**options)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        dispatch: Any = self.scripts["dispatch"].script
        self.scripts["dispatch"] = self.client.register_script(DISPATCH_CLOCK + dispatch)
        self.last_heartbeat: dict[str, float] = {}
        """Monotonic time of the last heartbeat of each queue's consumer, in seconds."""
        self._held: dict[str, set[str]] = {}
        """Ids of the messages that this process has of each queue and has not acknowledged."""
        self._log = logs.get(__name__)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """Return a consumer, which waits *timeout* milliseconds for a message, at most `POLL_MS`."""

        def record_heartbeat() -> None:
            self.last_heartbeat[queue_name] = time.monotonic()

        held = self._held.setdefault(queue_name, set())
        consumer = super().consume(queue_name, prefetch, min(timeout, POLL_MS))
        return _Consumer(consumer, record_heartbeat, held, lambda: self._return_lost(queue_name, held))

    def _return_lost(self, queue_name: str, held: set[str]) -> None:
        """Return messages to the queue that Redis gave to this process in a reply that was lost."""
        unacknowledged: Any = self.client.smembers(f"{self.namespace}:__acks__.{self.broker_id}.{queue_name}")
        lost = [message_id for message_id in unacknowledged if message_id.decode() not in held]
        if lost:
            self.do_requeue(queue_name, *lost)
            self._log.warning("lost_messages_returned", queue=queue_name, messages=len(lost))


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
    ) -> None:
        self._consumer = consumer
        self._record_heartbeat = record_heartbeat
        self._held = held
        self._return_lost: Callable[[], None] | None = return_lost
        record_heartbeat()

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Poll for a message."""
        self._record_heartbeat()
        with _failures_as_closed_connections():
            if self._return_lost is not None:
                self._return_lost()
                self._return_lost = None
            message = next(self._consumer)
        if message is not None:
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
