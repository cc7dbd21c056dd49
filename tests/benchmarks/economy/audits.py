"""
Audits of fed guilds by REST: how many calls they are, and how soon one finds a session that has lost its events.

One shard of 1,000 guilds that change as those of the world. The plan of audits is the product's; the choice of a guild
follows `fed_guilds.pick_for_audit`.
"""

import bisect
import dataclasses
import heapq
import math
import random

from indexing import settings
from indexing.gateway import audit
from indexing.store import fed_guilds
from tests.benchmarks.economy import world

GUILDS_PER_SHARD = 1_000
"""About as many as Discord recommends."""
WARM, DEAF_WITHIN, RUNS = 7 * world.DAY, world.DAY, 100
END = WARM + 14 * world.DAY
"""Seconds of history before a session becomes deaf, at a random moment of so many seconds after, and repetitions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """
    Hours from the loss of events until an audit finds a guild that differs, each as median and p95.

    Attributes:
        silent: Of a session that loses all events.
        partial: Of a session that loses most changes and brings just enough others not to be silent.
    """

    silent: tuple[float, float]
    partial: tuple[float, float]


class _Shard:
    """Guilds of a shard with the moments at which they change, until *end*."""

    def __init__(self, spec: world.WorldSpec, dice: random.Random, end: float) -> None:
        self.changes: dict[int, list[float]] = {}
        for guild_id in range(GUILDS_PER_SHARD):
            rate = 1 / (spec.changes * math.exp(dice.gauss(0, spec.spread)) * world.DAY)
            at, moments = dice.expovariate(rate), []
            while at < end:
                moments.append(at)
                at += dice.expovariate(rate)
            self.changes[guild_id] = moments
        self.all = sorted(at for moments in self.changes.values() for at in moments)
        self._dice = dice
        self.forget_audits()

    def forget_audits(self) -> None:
        """Begin without audits."""
        self._audited = dict.fromkeys(self.changes, 0.0)

    def last_change(self, now: float) -> float:
        """Return when any guild changed last."""
        place = bisect.bisect_right(self.all, now)
        return self.all[place - 1] if place else 0.0

    def pick(self, known_until: float, now: float) -> int:
        """Return the guild to audit; changes after *known_until* are not known."""
        among = list(self.changes)
        if self._dice.random() < audit.RECENT_SHARE:
            among = heapq.nlargest(fed_guilds.RECENT, among, key=lambda key: self._known(key, known_until))
        found = min(among, key=lambda key: self._audited[key])
        self._audited[found] = now
        return found

    def _known(self, guild_id: int, until: float) -> float:
        moments = self.changes[guild_id]
        place = bisect.bisect_right(moments, until)
        return moments[place - 1] if place else 0.0

    def differs(self, guild_id: int, since: float, now: float) -> bool:
        """Return whether the guild has changed since."""
        moments = self.changes[guild_id]
        return bisect.bisect_right(moments, now) > bisect.bisect_right(moments, since)


def _find(shard: _Shard, dice: random.Random, deaf_at: float, end: float, *, partial: bool) -> tuple[int, float]:
    """Return how many audits were made, and when one found a difference; *end* when none did."""
    interval = settings.GatewaySettings().audit_interval
    plan, now, made = audit.AuditPlan(interval, 0.0, dice.random()), 0.0, 0
    while now < end:
        now += interval * dice.uniform(0.5, 1.5)
        if not plan.is_due(now, shard.last_change(now if partial else min(now, deaf_at))):
            continue
        made += 1
        if shard.differs(shard.pick(deaf_at, now), deaf_at, now):
            return made, now
    return made, end


def calls_a_day(spec: world.WorldSpec) -> float:
    """Return the audits a day of a shard whose session brings all changes."""
    dice = random.Random(spec.seed)
    return _find(_Shard(spec, dice, END), dice, END, END, partial=False)[0] / (END / world.DAY)


def find_lost(spec: world.WorldSpec) -> Found:
    """Simulate losses; equal specs give equal results."""
    dice = random.Random(spec.seed)
    hours: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(RUNS):
        deaf_at = WARM + dice.random() * DEAF_WITHIN
        shard = _Shard(spec, dice, END)
        for partial, found in hours.items():
            shard.forget_audits()
            found.append((_find(shard, dice, deaf_at, END, partial=partial)[1] - deaf_at) / 3_600)
    silent, some = ((sorted(found)[RUNS // 2], sorted(found)[RUNS * 95 // 100]) for found in hours.values())
    return Found(silent, some)
