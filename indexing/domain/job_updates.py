"""Changes of a job as they are published: the job, a tally of its tasks, and the tasks that changed."""

import collections
import dataclasses
from collections.abc import Iterable

from indexing.domain import model


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """Number of a job's guild tasks by state."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def open(self) -> int:
        """Tasks that still need work."""
        return self.queued + self.running


@dataclasses.dataclass(frozen=True, slots=True)
class JobUpdate:
    """
    A change of a job: the job as it is now, and its changed tasks in full.

    Attributes:
        position: Opaque position in the job's stream of updates; empty when it was not read from there.
    """

    job: model.Job
    tally: Tally
    tasks: tuple[model.GuildTask, ...] = ()
    position: str = ""


def with_newest_job(before: JobUpdate | None, update: JobUpdate) -> JobUpdate:
    """
    Return *update*, which was published after *before*, with the job of the later turn.

    A turn that lost its job may still publish: its newer tasks are used, its view of the job is not.
    """
    if before is None or before.job.turn <= update.job.turn:
        return update
    return dataclasses.replace(update, job=before.job, tally=before.tally)


def tally_of(tasks: Iterable[model.GuildTask]) -> Tally:
    """Count *tasks* by state."""
    counts = collections.Counter(task.state.name.lower() for task in tasks)
    return Tally(total=counts.total(), **counts)


LAST_STEPS = 1 << 19
"""First step of the changes that end a turn or a job, above any step that a turn reaches before."""


def revision_of(turn: int, step: int) -> int:
    """
    Return the revision for the *step*-th change that *turn* makes.

    Turns own the job one after the other, so revisions grow over the whole job without a shared counter;
    2**20 changes a turn are far beyond the 200 guilds a user can have, and 2**33 turns fit into 53 bits.
    """
    return (turn << 20) | step


def fail_open_tasks(job: model.Job, tasks: Iterable[model.GuildTask]) -> dict[int, model.GuildTask]:
    """Return the open tasks of a failed job, failed with its reason, so that they can be retried."""
    return {
        task.guild_id: dataclasses.replace(
            task,
            state=model.TaskState.FAILED,
            reason=job.reason,
            retry_at=0.0,
            revision=revision_of(job.turn, LAST_STEPS + step),
        )
        for step, task in enumerate(tasks)
        if not task.state.terminal
    }
