"""
Counts every arrival against all the budgets it draws on, and says who must wait.

A budget is one limit of one identity (and, for routes, of one bucket and guild). All four server models run side by
side in each; those that are enforced decide, strictest first, the others only report what they would have done.
"""

import dataclasses
import zlib
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, get_args

from devstack.simulator import models

BudgetClass = Literal["global", "user", "app", "route"]

IDLE_BUDGETS = 20_000
"""Budgets kept before the idle ones are swept out."""


PER_SECOND = models.Limit(50, 1.0)
"""Global limit of a bot, or of an address (developers/topics/rate-limits.mdx, Global Rate Limit, read 2026-08-06)."""

PER_USER = models.Limit(5, 5.0)
"""Not documented: the product owner's figure."""


class Charge(NamedTuple):
    """One budget that a request draws on."""

    cls: BudgetClass
    key: tuple[str | int, ...]
    limit: models.Limit


class BudgetView(NamedTuple):
    """What a budget looks like from outside, for the rate limit headers."""

    limit: int
    remaining: int
    reset_after: float


class Verdict(NamedTuple):
    """The outcome for one arrival; `refused` is None if it was admitted, else the class that refused.

    `last` shows the budget of the last charge, which is the route's.
    """

    refused: BudgetClass | None
    retry_after: float
    last: BudgetView


class _Budget:
    __slots__ = ("limit", "models", "used")

    def __init__(self, limit: models.Limit, phase: float) -> None:
        self.limit = limit
        self.models = models.all_models(limit, phase)
        self.used = 0.0


@dataclasses.dataclass
class BudgetSizes:
    """How large the budgets are; `routes` overrides what the route table says, by route name."""

    bot: models.Limit = PER_SECOND
    """The bot token's, over all routes."""

    user: models.Limit = PER_USER
    """Each user's, over all routes."""

    app: models.Limit = PER_SECOND
    """The token endpoint's, per address, as for calls without identity."""

    routes: dict[str, models.Limit] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Assessment:
    charge: Charge
    budget: _Budget
    waits: list[float]


class Limiter:
    """All budgets; *enforced* names the models whose refusal is an answer and not only a number."""

    def __init__(self, seed: int, enforced: Collection[str]) -> None:
        self._seed = seed
        self._enforced = [index for index, name in enumerate(models.NAMES) if name in enforced]
        self._seen = self._enforced or list(range(len(models.NAMES)))
        self._budgets: dict[tuple[str | int, ...], _Budget] = {}
        self._sweep_at = IDLE_BUDGETS
        self.rejections: dict[str, list[int]] = {}

    def admit(self, charges: Sequence[Charge], now: float, *, record: bool = True) -> Verdict:
        """Charge all budgets or none; with *record*, count which models reject the request."""
        assessed = [self._assess(charge, now) for charge in charges]
        if record:
            self._report(assessed)
        refused, retry_after = self._refusal(assessed)
        if refused is None:
            for one in assessed:
                _count(one, now)
        return Verdict(refused, retry_after, self._view(assessed[-1].budget, now))

    def document(self) -> dict[str, dict[str, int]]:
        """Show for each class and model how many of our requests it would have rejected."""
        none = [0] * len(models.NAMES)
        return {
            cls: dict(zip(models.NAMES, self.rejections.get(cls, none), strict=True)) for cls in get_args(BudgetClass)
        }

    def reset(self) -> None:
        """Forget all that was counted."""
        self._budgets.clear()
        self.rejections.clear()

    def _assess(self, charge: Charge, now: float) -> _Assessment:
        budget = self._budgets.get(charge.key)
        if budget is None or budget.limit != charge.limit:
            budget = self._open(charge, now)
        return _Assessment(charge, budget, [model.wait(now) for model in budget.models])

    def _report(self, assessed: Sequence[_Assessment]) -> None:
        for one in assessed:
            if any(one.waits):
                counts = self.rejections.setdefault(one.charge.cls, [0] * len(models.NAMES))
                for index, wait in enumerate(one.waits):
                    counts[index] += wait > 0

    def _open(self, charge: Charge, now: float) -> _Budget:
        if len(self._budgets) >= self._sweep_at:
            fresh = {key: old for key, old in self._budgets.items() if now - old.used < 2 * old.limit.window}
            self._budgets = fresh
            self._sweep_at = max(IDLE_BUDGETS, 2 * len(fresh))
        phase = zlib.crc32(f"{self._seed}/{charge.key}".encode()) / 2**32
        budget = self._budgets[charge.key] = _Budget(charge.limit, phase)
        return budget

    def _refusal(self, assessed: Sequence[_Assessment]) -> tuple[BudgetClass | None, float]:
        refused: BudgetClass | None = None
        longest = 0.0
        for one in assessed:
            wait = max((one.waits[index] for index in self._enforced), default=0.0)
            if wait > 0 and refused is None:
                refused = one.charge.cls
            longest = max(longest, wait)
        return refused, longest

    def _view(self, budget: _Budget, now: float) -> BudgetView:
        shown = [budget.models[index] for index in self._seen]
        remaining = max(min(model.remaining(now) for model in shown), 0)
        return BudgetView(budget.limit.capacity, remaining, max(model.reset_after(now) for model in shown))


def _count(one: _Assessment, now: float) -> None:
    one.budget.used = now
    for model, wait in zip(one.budget.models, one.waits, strict=True):
        if not wait:
            model.count(now)
