"""
The message that hands a turn to the workers: names of queue and actor, and the payload.

Unknown fields are ignored and new ones have defaults, so that service and workers can be deployed in any order.
"""

import dataclasses

from indexing.domain import model

ACTOR = "run_turn"
QUEUE = "background"
"""Turns of jobs."""
QUEUES = (QUEUE,)
"""Queues that workers consume: an idle one costs about 20 commands a second in each worker process."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """
    One turn of a job. It runs only if *number* is the job's current one.

    Attributes:
        carried: Request id and trace context of the request that enqueued it, see telemetry/tracing; may be empty.
        callers: Those that the job is for: the turn goes to the line of one of them. Not part of the message.
    """

    job_id: str
    number: int
    carried: str = dataclasses.field(default="", compare=False)
    callers: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def payload(self) -> dict[str, object]:
        """Return the keyword arguments of the message."""
        payload: dict[str, object] = {"job_id": self.job_id, "number": self.number}
        return payload | {"carried": self.carried} if self.carried else payload


def turn_after(job: model.Job) -> Turn:
    """Return the turn that follows the one that owns *job*, in the line of its callers."""
    return Turn(job.job_id, job.turn, callers=job.callers)


def begun(job: model.Job) -> model.Job:
    """Return a new job as owned by its first turn; the next one is due as the first would be, and takes it over."""
    return dataclasses.replace(job, turn=1, unfinished=1)


def parse(payload: dict[str, object]) -> Turn:
    """Return the turn in a message; fields of a newer version are ignored."""
    return Turn(
        job_id=str(payload["job_id"]), number=int(str(payload["number"])), carried=str(payload.get("carried", ""))
    )
