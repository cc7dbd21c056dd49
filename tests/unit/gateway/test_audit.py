"""Audits: a difference from the HTTP API must last, and ends the session at most once an hour."""

from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import registry

from indexing import errors
from indexing.domain import model
from indexing.gateway import audit
from indexing.telemetry import gateway_metrics
from tests import values

pytestmark = pytest.mark.clockwork
GUILD = values.GUILD
ONE, TWO = values.channel(1, GUILD), values.channel(2, GUILD)
Listing = Sequence[model.Channel]


class Guilds:
    """Stored channels, each state for one loading; the last one stays."""

    def __init__(self, states: list[Listing], *, fed: bool) -> None:
        self._states = states
        self._fed = "0/1" if fed else ""
        self.due: list[int] = []

    async def load(self, guild_ids: list[int]) -> dict[int, model.IndexedGuild]:
        """Return the next state."""
        rows = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        guild = values.guild(fed_by=self._fed)
        return {guild_ids[0]: model.IndexedGuild(guild, 1, tuple(rows), ())}

    async def schedule_soon(self, guild_ids: list[int], now: float) -> None:  # noqa: ARG002 -- the port has it
        """Note what is due."""
        self.due += guild_ids


class Discord:
    """Listings, each for one call; the last one stays."""

    def __init__(self, listings: list[Listing | Exception]) -> None:
        self._listings = listings

    async def guild_channels(self, *_: object) -> Listing:
        """Return the next listing."""
        found = self._listings.pop(0) if len(self._listings) > 1 else self._listings[0]
        if isinstance(found, Exception):
            raise found
        return found


class Case:
    """An auditor, and what it did."""

    def __init__(self, stored: list[Listing], listed: list[Listing | Exception], *, fed: bool = True) -> None:
        self.guilds, self.ended = Guilds(stored, fed=fed), list[str]()
        deps: Any = type("Deps", (), {"guilds": self.guilds, "discord": Discord(listed), "clock": lambda: 0.0})
        metrics = gateway_metrics.GatewayMetrics(registry.CollectorRegistry())
        self.auditor = audit.Auditor(deps, metrics, wait=10.0, end_session=self.end)

    async def end(self, reason: str) -> None:
        """Note the end of a session."""
        self.ended.append(reason)


@pytest.mark.parametrize(
    ("stored", "listed", "result"),
    [
        ([[ONE]], [[ONE]], "same"),
        ([[ONE]], [[ONE, TWO]], "differs"),
        ([[ONE], [ONE, TWO]], [[ONE, TWO]], "same"),
        ([[ONE]], [[ONE, TWO], [ONE]], "same"),
        ([[ONE]], [errors.DiscordTransient("busy")], "unknown"),
        ([[ONE]], [errors.NoAccess(403, 50001)], "unknown"),
        ([[ONE]], [[ONE, values.channel(3, GUILD, flags=1 << 17)]], "same"),
    ],
    ids=["equal", "lasting", "the event came meanwhile", "changed back", "no answer", "refused", "redacted"],
)
async def test_an_audit_differs_when_a_difference_lasts(
    stored: list[Listing], listed: list[Listing | Exception], result: str
) -> None:
    """Events may be under way; a difference counts if neither what was stored before nor after equals the listing."""
    case = Case(stored, listed)

    assert await case.auditor.audit(GUILD) == result
    assert case.ended == (["audit"] if result == "differs" else [])
    assert case.guilds.due == ([GUILD] if result == "differs" else [])


async def test_nothing_is_compared_when_the_guild_is_not_fed() -> None:
    """It is as old as its listing, and nobody says otherwise."""
    case = Case([[ONE]], [[ONE, TWO]], fed=False)

    assert await case.auditor.audit(GUILD) == "unknown"
    assert case.ended == []


async def test_one_session_is_ended_an_hour_when_every_audit_differs() -> None:
    """Identifies are few; what differs is read by REST."""
    case = Case([[ONE]], [[ONE, TWO]])

    await case.auditor.audit(GUILD)
    await case.auditor.audit(GUILD)

    assert case.ended == ["audit"]
    assert case.guilds.due == [GUILD, GUILD]


def due_at(plan: audit.AuditPlan, changed_at: list[float], until: float) -> list[float]:
    """Return when audits are due with one look at every ten seconds; the last change is the newest of *changed_at*."""
    moments = [10.0 * number for number in range(1, int(until / 10.0) + 1)]
    return [now for now in moments if plan.is_due(now, max(at for at in changed_at if at <= now))]


def test_a_session_is_audited_at_every_interval_when_it_has_been_silent_for_six() -> None:
    """A session that lost all events is found soon, and it is silent."""
    plan = audit.AuditPlan(10.0, now=0.0, share=0.0)

    assert due_at(plan, [0.0], 100.0) == [60.0, 70.0, 80.0, 90.0, 100.0]


def test_a_session_is_audited_seldom_when_it_brings_changes() -> None:
    """Every 24 intervals: it may lack some changes. The first one does not wait that long when processes restart."""
    changes = [10.0 * number for number in range(61)]

    assert due_at(audit.AuditPlan(10.0, now=0.0, share=0.0), changes, 600.0) == [240.0, 480.0]
    assert due_at(audit.AuditPlan(10.0, now=0.0, share=0.75), changes, 400.0) == [60.0, 300.0]
