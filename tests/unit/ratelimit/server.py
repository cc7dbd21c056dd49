"""A server that counts every call by four models at once; it rejects nothing, and counts what it would reject."""

import collections
import dataclasses

from devstack.simulator import models


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """Limits of a token, of each user, and of a route for each guild."""

    token: models.Limit
    user: models.Limit
    route: models.Limit


class Server:
    """
    Counts arrivals.

    Attributes:
        rejections: Calls that a model would reject, by budget and model.
        arrivals: Calls that arrived.
    """

    def __init__(self, sizes: Sizes, phase: float, *, headers: str) -> None:
        """*headers* names the model that fills the route's headers: "first" or "sliding"."""
        self._sizes = sizes
        self._phase = phase
        self._shown = models.NAMES.index(headers)
        self._models: dict[str, tuple[models.Model, ...]] = {}
        self.rejections: collections.Counter[tuple[str, str]] = collections.Counter()
        self.arrivals = 0

    def arrive(self, now: float, user: int, guild: int) -> dict[str, str]:
        """Count one call; return the headers of its answer."""
        self.arrivals += 1
        self._count("token", self._sizes.token, now)
        self._count(f"user {user}", self._sizes.user, now)
        name = f"route {guild}"
        self._count(name, self._sizes.route, now)
        shown = self._models[name][self._shown]
        return {
            "x-ratelimit-bucket": "abcd",
            "x-ratelimit-limit": str(self._sizes.route.capacity),
            "x-ratelimit-remaining": str(max(0, shown.remaining(now))),
            "x-ratelimit-reset-after": f"{shown.reset_after(now):.3f}",
        }

    def _count(self, name: str, limit: models.Limit, now: float) -> None:
        if name not in self._models:
            self._models[name] = models.all_models(limit, self._phase)
        for model, kind in zip(self._models[name], models.NAMES, strict=True):
            if model.wait(now) > 0:
                self.rejections[name.split(maxsplit=1)[0], kind] += 1
            else:
                model.count(now)
