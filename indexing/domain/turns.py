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
    """
    One turn of a job. It runs only if *number* is the job's current one.

    Attributes:
        carried: Request id and trace of whoever asked for it, see traces.carry; empty when there is none.
    """

    job_id: str
    number: int
    carried: str = dataclasses.field(default="", compare=False)

    def payload(self) -> dict[str, object]:
        """Return the keyword arguments of the message."""
        found: dict[str, object] = {"job_id": self.job_id, "number": self.number}
        return found | {"carried": self.carried} if self.carried else found


def parse(payload: dict[str, object]) -> Turn:
    """Return the turn that a message carries; fields of a newer version are ignored."""
    return Turn(
        job_id=str(payload["job_id"]), number=int(str(payload["number"])), carried=str(payload.get("carried", ""))
    )
