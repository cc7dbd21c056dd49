"""The state of one job as a client knows it, merged from StartIndexing's response and WatchProgress events."""

import collections
from collections.abc import Iterable

from indexer_service.v1 import indexer_pb2 as pb

ENDED_JOB_STATES = {
    pb.JOB_STATE_SUCCEEDED,
    pb.JOB_STATE_SUCCEEDED_WITH_ERRORS,
    pb.JOB_STATE_FAILED,
    pb.JOB_STATE_CANCELLED,
}
FINISHED_GUILD_STATES = {
    pb.GUILD_STATE_SUCCEEDED,
    pb.GUILD_STATE_SKIPPED,
    pb.GUILD_STATE_FAILED,
    pb.GUILD_STATE_CANCELLED,
}


class TrackedJob:
    """The job and its latest guild tasks by guild id; a guild task never replaces one with a higher revision."""

    def __init__(self) -> None:
        self.job = pb.Job()
        self.guild_tasks: dict[str, pb.JobGuild] = {}
        self.disposition: pb.Disposition = pb.DISPOSITION_UNSPECIFIED
        self._finished: dict[str, int] = {}
        self._batch = 0

    def apply_start(self, answer: pb.StartIndexingResponse) -> list[pb.JobGuild]:
        """Merge StartIndexing's response; returns the guild tasks that changed."""
        self.disposition = answer.disposition
        if not self.ended:
            self.job = answer.job
        return self._merge(answer.guilds)

    def apply_event(self, message: pb.WatchProgressResponse) -> list[pb.JobGuild]:
        """Merge a WatchProgress event; returns the guild tasks that changed."""
        kind = message.WhichOneof("event")
        if kind == "snapshot":
            self.job = message.snapshot.job
            return self._merge(message.snapshot.guilds)
        if kind == "guild":
            return self._merge([message.guild])
        if kind == "job":
            self.job = message.job
        elif kind == "throttled":
            self.job.throttled.CopyFrom(message.throttled)
        elif kind == "terminal":
            self.job = message.terminal.job
        return []

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.job.state in ENDED_JOB_STATES

    @property
    def throttled(self) -> pb.Throttled | None:
        """The budget that the running job waits for, or None."""
        return self.job.throttled if self.job.HasField("throttled") and not self.ended else None

    @property
    def finished_count(self) -> int:
        """Number of guild tasks in a final state."""
        return len(self._finished)

    @property
    def channel_count(self) -> int:
        """Number of channels indexed so far."""
        return sum(row.channel_count for row in self.guild_tasks.values())

    def tasks_by_position(self) -> list[pb.JobGuild]:
        """Return all guild tasks, the highest-ranked guild first."""
        return sorted(self.guild_tasks.values(), key=lambda row: row.position)

    def tasks_by_activity(self) -> list[pb.JobGuild]:
        """Return all guild tasks: running, waiting for a retry, finished last, queued, skipped or cancelled."""
        return sorted(self.guild_tasks.values(), key=self._activity_key)

    def skipped_by_reason(self) -> list[tuple[str, int]]:
        """Return the number of skipped guilds by reason, the most frequent first."""
        skipped = (row.error for row in self.guild_tasks.values() if row.state == pb.GUILD_STATE_SKIPPED)
        return collections.Counter(skipped).most_common()

    def _activity_key(self, row: pb.JobGuild) -> tuple[int, int, int]:
        if row.state == pb.GUILD_STATE_RUNNING:
            return 0, 0, row.position
        if row.state == pb.GUILD_STATE_QUEUED:
            return (1 if row.HasField("retry_time") else 3), 0, row.position
        if row.state in {pb.GUILD_STATE_SKIPPED, pb.GUILD_STATE_CANCELLED}:
            return 4, 0, row.position
        return 2, -self._finished.get(row.guild_id, 0), row.position

    def _merge(self, rows: Iterable[pb.JobGuild]) -> list[pb.JobGuild]:
        changed = []
        self._batch += 1
        for row in rows:
            known = self.guild_tasks.get(row.guild_id)
            if known is not None and (known.revision > row.revision or known == row):
                continue
            self.guild_tasks[row.guild_id] = row
            if row.state in FINISHED_GUILD_STATES:
                self._finished.setdefault(row.guild_id, self._batch)
            else:
                self._finished.pop(row.guild_id, None)
            changed.append(row)
        return changed
