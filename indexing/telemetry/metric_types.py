"""
Counters, gauges and histograms as we declare them: every label has a bound, every series is there from the start.

A series that appears with its first event has no rate at that event, so an alert on the first failure would never
fire; and a label without a bound (a user, a guild) would grow the monitoring without end.

Every label of our metrics with all its values; tests hold them to the enumerations they repeat.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Self

import prometheus_client
from prometheus_client import gc_collector, process_collector, registry

OTHER = "other"


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """A label and all its values; `bound` is what a reader is told where the values differ from build to build."""

    name: str
    values: tuple[str, ...]
    bound: str = ""

    def fit(self, value: str) -> str:
        """Return *value* if it is one of ours, else "other", which must then be among the values."""
        return value if value in self.values else OTHER


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """What is documented of a metric; `name` is the one that Prometheus shows, without _bucket, _sum or _count."""

    kind: str
    name: str
    help: str
    labels: tuple[Label, ...]


class Counter(prometheus_client.Counter):
    """The client's, whose series are found as fast as what is there from the start allows: a guild asks 15 times."""

    def labels(self, *values: str) -> Self:  # type: ignore[override]  # ours are strings, in order
        """Return a series."""
        # Reading a dict needs no lock, and our values are strings already.
        found = self._metrics.get(values)
        return super().labels(*values) if found is None else found  # type: ignore[return-value]  # its own, by another name


class Histogram(prometheus_client.Histogram):
    """The same for histograms."""

    def labels(self, *values: str) -> Self:  # type: ignore[override]  # as above
        """Return a series."""
        found = self._metrics.get(values)
        return super().labels(*values) if found is None else found  # type: ignore[return-value]  # its own, by another name


class Group:
    """Metrics that belong together, on one registry; `declared` lists them."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        self._to = to
        self.declared: list[Declared] = []

    def _counter(self, name: str, text: str, *labels: Label, first: Iterable[Sequence[str]] | None = None) -> Counter:
        """Declare a counter, whose name ends in _total. *first*: the series that exist at once; None for all."""
        made = Counter(name, text, [label.name for label in labels], registry=self._to)
        self._declare("counter", name, text, labels)
        _begin(made, labels, first)
        return made

    def _gauge(self, name: str, text: str, *labels: Label, absent: bool = False) -> prometheus_client.Gauge:
        """Declare a gauge; *absent*: without series until it is set, because 0 would be a lie."""
        made = prometheus_client.Gauge(name, text, [label.name for label in labels], registry=self._to)
        self._declare("gauge", name, text, labels)
        _begin(made, labels, () if absent else None)
        if absent:
            clear_gauge(made)
        return made

    def _histogram(
        self,
        name: str,
        text: str,
        *labels: Label,
        buckets: Sequence[float],
        first: Iterable[Sequence[str]] | None = None,
    ) -> Histogram:
        """Declare a histogram with these upper bounds, in the unit that its name ends in."""
        names = [label.name for label in labels]
        made = Histogram(name, text, names, buckets=buckets, registry=self._to)
        self._declare("histogram", name, text, labels)
        _begin(made, labels, first)
        return made

    def _declare(self, kind: str, name: str, text: str, labels: tuple[Label, ...]) -> None:
        self.declared.append(Declared(kind, name, text, labels))


def clear_gauge(gauge: prometheus_client.Gauge) -> None:
    """Take back what a gauge says: its series go; the one of a gauge without labels, which cannot, says NaN."""
    if gauge._labelnames:  # noqa: SLF001 -- there is no public way to ask
        gauge.clear()
    else:
        gauge.set(math.nan)


def new_registry() -> registry.CollectorRegistry:
    """Return a registry with what the process uses of the machine, and without the _created series, half of a page."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there
    made = registry.CollectorRegistry()
    process_collector.ProcessCollector(registry=made)
    gc_collector.GCCollector(registry=made)
    return made


def _begin(
    made: Counter | prometheus_client.Gauge | Histogram,
    labels: tuple[Label, ...],
    first: Iterable[Sequence[str]] | None,
) -> None:
    if not labels:
        return
    for values in itertools.product(*(label.values for label in labels)) if first is None else first:
        made.labels(*values)


LANE = Label("lane", ("interactive", "background", "refresh"))
BUDGET = Label("budget", ("global", "user", "route", "egress"))
REFUSAL_REASON = Label("why", ("used up", "probe", "hold", "pause", "shared", "edge", "breaker", "other"))
SCOPE = Label("scope", ("user", "global", "shared", "egress"))
ROUTE = Label(
    "route",
    (
        "GET /users/@me/guilds",
        "GET /guilds/{guild.id}/channels",
        "GET /users/@me/guilds/{guild.id}/member",
        "GET /guilds/{guild.id}/members/{user.id}",
        "POST /oauth2/token",
        "POST /oauth2/token/revoke",
        "other",
    ),
)
STATUS = Label(
    "status", ("200", "401", "403", "404", "429", "500", "502", "503", "504", "unreachable", "lost", "other")
)
JOB_STATE = Label("state", ("SUCCEEDED", "SUCCEEDED_WITH_ERRORS", "FAILED", "CANCELLED"))
GUILD_TASK_STATE = Label("state", ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELLED"))
REASON = Label(
    "cause",
    (
        *("", "BOT_NOT_INSTALLED", "BOT_REMOVED", "MUTED", "USER_LEFT", "NO_ACCESS", "GUILD_UNAVAILABLE"),
        *("ROLES_UNKNOWN", "DISCORD_REFUSED", "DISCORD_TRANSIENT", "BOT_TOKEN_REFUSED", "CLIENT_REFUSED"),
        *("TURNS_LOST", "CREDENTIAL_MISSING", "REAUTH_REQUIRED", "CREDENTIAL_REVOKED", "INTERNAL", "other"),
    ),
)
MILESTONE = Label("milestone", ("list", "first", "five", "done"))
RESULT = Label("result", ("changed", "unchanged", "error"))
RENEWAL = Label("result", ("renewed", "refused", "failed", "lost"))
DISPOSITION = Label("disposition", ("CREATED", "JOINED", "FRESH", "REPLAYED"))
PERIODIC_TASK = Label("duty", ("alarm", "sweep", "installs", "refresh", "purge", "read", "other"))
COMMAND = Label(
    "command",
    ("find", "insert", "update", "delete", "findAndModify", "aggregate", "count", "distinct", "createIndexes"),
)
GRPC_TYPE = Label("grpc_type", ("unary", "server_stream"))
GRPC_SERVICE = Label("grpc_service", ("indexer_service.v1.IndexerService",))
GRPC_CODE = Label(
    "grpc_code",
    (
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
    ),
)
QUEUE = Label("queue", ("background", "other"))
QUEUE_STATE = Label("state", ("live", "ready", "dead"))
SHOWN_BUDGET = Label("budget", ("global", "user", "invalid_requests"))
SINGLE_BUDGET = Label("budget", ("global", "invalid_requests"))
STATISTIC = Label("statistic", ("min", "p10"))
BUCKET_STATE = Label("state", ("open", "exhausted", "paused"))
CREDENTIAL = Label("state", ("stored", "reauth_required"))
SOURCE = Label("source", ("budgets", "redis", "mongodb"))
