"""A broker that knows when its consumers last came round: so one that hangs is told from one that waits."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker


class Broker(RedisBroker):
    """
    Dramatiq's own, except that its consumers are heard of.

    Dramatiq asks Redis without a time limit: when answers get lost on the way, a consumer waits for ever, its thread
    is alive, and no more messages come. While Redis refuses, consumers come round all the same.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- Dramatiq's
        super().__init__(**options)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        self.heard_at: dict[str, float] = {}
        """Monotonic seconds at which the consumer of each queue last came round."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """Return a consumer, whose *timeout* is in milliseconds."""

        def heard() -> None:
            self.heard_at[queue_name] = time.monotonic()

        return _Heard(super().consume(queue_name, prefetch, timeout), heard)


class _Heard(dramatiq.Consumer):
    """Says that it is there whenever it looks for a message, whatever comes of that."""

    def __init__(self, consumer: dramatiq.Consumer, heard: Callable[[], None]) -> None:
        self._consumer = consumer
        self._heard = heard
        heard()

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Look for a message."""
        self._heard()
        return next(self._consumer)

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Pass on."""
        self._consumer.ack(message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Pass on."""
        self._consumer.nack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Pass on."""
        self._consumer.requeue(messages)

    def close(self) -> None:
        """Pass on."""
        self._consumer.close()
