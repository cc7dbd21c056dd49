"""The summary of a demo, as a table and as JSON, with the problems found."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from rich import console, table, text

from devstack import counts, job_runs
from indexer_client.cli import formatting, times
from indexer_service.v1 import indexer_pb2 as pb

TIMES: dict[str, tuple[str, Callable[[job_runs.JobRun], float | None]]] = {
    "seconds_to_list": ("guild list", lambda run: run.list_visible_at),
    "seconds_to_first_guild": ("first guild", lambda run: run.first_guild_at),
    "seconds_to_answer": ("StartIndexing response", lambda run: run.answered_at),
    "seconds_to_first_five": ("first five guilds", lambda run: run.first_five_at),
    "seconds_total": ("all guilds", lambda run: run.ended_at),
}
NEXT = (
    "Next: `make up` keeps all of this running, with the API on 127.0.0.1:50051, and prints what to paste.",
    "The API is proto/indexer_service/v1/indexer.proto. docs/boards shows what the dashboards show.",
    "deploy/compose.yaml runs it with a real MongoDB, Redis, Prometheus and Grafana, for those who have containers.",
)
"""What to look at after the demo."""


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """The result of a demo; with `errors_allowed`, because faults were injected, guilds may have failed."""

    runs: Sequence[job_runs.JobRun]
    counts: counts.Counts
    errors_allowed: bool

    @property
    def problems(self) -> list[str]:
        """One line per problem; empty when the run is good."""
        good = {pb.JOB_STATE_SUCCEEDED}
        good |= {pb.JOB_STATE_SUCCEEDED_WITH_ERRORS} if self.errors_allowed else set()
        found = [f"user {run.user}: {_outcome(run)}" for run in self.runs if run.tracked.job.state not in good]
        found += [f"429 responses: {self.counts.http_429}"] if self.counts.http_429 else []
        found += [f"guilds fetched more than once: {self.counts.duplicates}"] if self.counts.duplicates else []
        return found

    def document(self) -> dict[str, Any]:
        """Return the summary as JSON values; times are the maximum over all users."""
        channels = job_runs.channels_by_guild(self.runs)
        states = [pb.JobState.Name(run.tracked.job.state).removeprefix("JOB_STATE_").lower() for run in self.runs]
        return {
            "users": len(self.runs),
            "guilds": len(channels),
            "channels": sum(channels.values()),
            "discord_calls": sum(self.counts.by_route.values()),
            "http_429": self.counts.http_429,
            "duplicate_guild_fetches": self.counts.duplicates,
            **{name: _rounded(self._values(name), max) for name in TIMES},
            "p50": {name: _rounded(self._values(name), statistics.median) for name in TIMES},
            "guilds_in_first_answer": min((run.indexed_in_answer for run in self.runs), default=0),
            "memberships": sum(len(run.tracked.guild_tasks) for run in self.runs),
            "jobs": {state: states.count(state) for state in sorted(set(states))},
            "discord_calls_by_route": dict(self.counts.by_route),
            "headroom_low_water": dict(self.counts.headroom),
            "good": not self.problems,
        }

    def print_to(self, screen: console.Console) -> None:
        """Print times, cost and problems."""
        document = self.document()
        many = len(self.runs) > 1
        drawn = table.Table.grid(padding=(0, 2))
        drawn.add_column()
        drawn.add_column(justify="right")
        if many:
            drawn.add_column(justify="right")
        headings = ("time until", "median", "slowest user") if many else ("time until", "")
        drawn.add_row(*headings, style="dim")
        for name, (label, _) in TIMES.items():
            spans = [document["p50"][name], document[name]] if many else [document[name]]
            included = times.pluralize(document["guilds_in_first_answer"], "guild")
            shown = f"{label} (with {included})" if name == "seconds_to_answer" and not many else label
            drawn.add_row(shown, *("-" if span is None else times.format_seconds(span) for span in spans))
        screen.print(drawn)
        screen.print()
        screen.print(self._cost_table(document))
        screen.print()
        self._print_verdict(screen, document)

    def _cost_table(self, document: dict[str, Any]) -> table.Table:
        drawn = table.Table.grid(padding=(0, 2))
        drawn.add_column()
        drawn.add_column(justify="right")
        if len(self.runs) > 1:
            drawn.add_row("guild tasks", f"{document['memberships']:,}")
        drawn.add_row("guilds" if len(self.runs) == 1 else "different guilds", f"{document['guilds']:,}")
        drawn.add_row("channels in them", f"{document['channels']:,}")
        drawn.add_row("calls to Discord", f"{document['discord_calls']:,}")
        for route, number in self.counts.by_route.items():
            drawn.add_row(text.Text(f"  {route}", style="dim"), text.Text(f"{number:,}", style="dim"))
        drawn.add_row("429 responses", _count_text(self.counts.http_429))
        if self.counts.duplicates is not None:
            drawn.add_row("guilds fetched more than once", _count_text(self.counts.duplicates))
        for budget, share in sorted(self.counts.headroom.items()):
            drawn.add_row(f"most used of the limit at a time, {budget}", f"{1 - share:.0%}")
        return drawn

    def _print_verdict(self, screen: console.Console, document: dict[str, Any]) -> None:
        for line in self.problems:
            screen.print(text.Text(f"✗ {line}", style="red"))
        if document["good"]:
            subject = "all jobs succeeded" if len(self.runs) > 1 else "the job succeeded"
            screen.print(
                text.Text(f"✓ {subject}, no limit exceeded (no 429), no guild fetched twice", style="bold green")
            )
        screen.print()
        for line in NEXT:
            screen.print(text.Text(line, style="dim"), soft_wrap=True)

    def _values(self, name: str) -> list[float] | None:
        """Return the times of all users, or None when one is missing."""
        found = [TIMES[name][1](run) for run in self.runs]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else None


def _rounded(values: list[float] | None, of: Callable[[list[float]], float]) -> float | None:
    return round(of(values), 3) if values else None


def _count_text(number: int) -> text.Text:
    return text.Text(f"{number:,}", style="bold red" if number else "green")


def _outcome(run: job_runs.JobRun) -> str:
    error = f" ({run.tracked.job.error})" if run.tracked.job.error else ""
    return run.error or f"{formatting.JOB_STATES.get(run.tracked.job.state, 'not ended')}{error}"
