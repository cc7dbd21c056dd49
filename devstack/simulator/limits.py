"""
Charges every call to its budgets, and rejects calls above a limit.

A budget is one limit of one identity (and, for routes, of one bucket and guild). Each budget runs all four server
models. The enforced ones decide, the strictest first; the others only count what they would have rejected.
"""

import dataclasses
import zlib
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, get_args

from devstack.simulator import models

BudgetClass = Literal["global", "user", "app", "route"]

IDLE_BUDGETS = 20_000
"""Number of budgets at which idle ones are removed."""


PER_SECOND = models.Limit(50, 1.0)
"""Global limit of a bot or an address (developers/topics/rate-limits.mdx, Global Rate Limit, read 2026-08-06)."""

PER_USER = models.Limit(5, 5.0)
"""Not documented by Discord; the product owner's figure."""


class Charge(NamedTuple):
    """One budget that a request is charged to."""

    cls: BudgetClass
    key: tuple[str | int, ...]
    limit: models.Limit


class BudgetView(NamedTuple):
    """A budget as reported in the rate limit headers."""

    limit: int
    remaining: int
    reset_after: float


class Verdict(NamedTuple):
    """
    The outcome for one call.

    Attributes:
        refused: The class of the budget that rejected the call; None if it was admitted.
        last: The budget of the last charge, which is the route's.
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
    """Sizes of the budgets; `routes` overrides the route table, by route name."""

    bot: models.Limit = PER_SECOND
    """Budget of the bot token, over all routes."""

    user: models.Limit = PER_USER
    """Budget of each user, over all routes."""

    app: models.Limit = PER_SECOND
    """Budget of the token endpoint, per address."""

    routes: dict[str, models.Limit] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Assessment:
    charge: Charge
    budget: _Budget
    waits: list[float]


class Limiter:
    """All budgets. The models in *enforced* reject requests; the others only count what they would reject."""

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
        """Return, by class and model, the number of requests that the model would have rejected."""
        none = [0] * len(models.NAMES)
        return {
            cls: dict(zip(models.NAMES, self.rejections.get(cls, none), strict=True)) for cls in get_args(BudgetClass)
        }

    def reset(self) -> None:
        """Clear all budgets and counters."""
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
