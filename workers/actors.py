"""The actor that runs a turn; declared on a broker, not at import."""

import dramatiq

from indexing.domain import turns
from workers import worker

TIME_LIMIT_MS = 60_000
"""Far beyond the longest turn; a turn that hangs that long is cut off, and the sweeper gives its job to another."""


def declare(broker: dramatiq.Broker, parts: worker.Runtime) -> None:
    """Declare our actors on *broker*."""

    async def run_turn(**payload: object) -> None:
        await parts.run_turn(turns.parse(payload))

    dramatiq.actor(
        broker=broker,
        actor_name=turns.ACTOR,
        queue_name=turns.QUEUE,
        max_retries=0,
        time_limit=TIME_LIMIT_MS,
    )(run_turn)
