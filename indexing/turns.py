"""
The contract between who enqueues a turn and who runs it: queue and actor names, payload in and out.

Unknown fields are ignored and new ones get defaults, so that service and workers can be deployed in any order.
"""

import dataclasses

ACTOR = "run_turn"
QUEUE = "background"
"""Turns of jobs."""
QUEUES = (QUEUE,)
"""Every queue that is looked at: an idle one costs about 20 commands a second in each worker process."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a job. It runs only if *number* is the job's current one."""

    job_id: str
    number: int

    def payload(self) -> dict[str, object]:
        """Return the keyword arguments of the message."""
        return {"job_id": self.job_id, "number": self.number}


def parse(payload: dict[str, object]) -> Turn:
    """Return the turn that a message carries; fields of a newer version are ignored."""
    return Turn(job_id=str(payload["job_id"]), number=int(str(payload["number"])))
