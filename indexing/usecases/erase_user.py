"""A user is erased: everything that is known of him, and what only he has brought."""

from indexing.domain import ports
from indexing.telemetry import logs
from indexing.usecases import control_job, leftovers

ERASED = "USER_ERASED"
"""Why the user's work ended when he was erased."""


class Erasure:
    """Erases users."""

    def __init__(self, world: ports.World, controls: control_job.Control, budgets: ports.Budgets) -> None:
        self._world = world
        self._controls = controls
        self._budgets = budgets
        self._log = logs.get(__name__)

    async def erase(self, user_id: int) -> dict[str, int]:
        """
        Erase a user; returns the documents that were there of him, by collection. Nobody known is no error.

        They are counted before, because turns that notice the erasure take part in it. His own row goes first, so that
        nothing new begins; then his job is ended, for turns and watchers; then all the rest. Whoever is stopped
        half-way calls again: everything is found by the user's id until it is gone.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable, errors.LimiterUnavailable: Call again.
        """
        counts = await self._world.remains.count(user_id)
        await self._world.remains.erase_user(user_id)
        await self._controls.stop(user_id, ERASED)
        await leftovers.erase(self._world, user_id)
        await self._budgets.forget_user(user_id)
        found = {name: count for name, count in counts.items() if count}
        self._log.info("user_erased", **found)
        return found
