"""
A user is erased: everything that is known of him, and what only he has brought.

What is left of an erased user, and how it goes, whoever brings it back.

Work that runs while its user is erased writes a little longer. Writes to rows that are gone change nothing; what would
make new rows looks afterwards whether the user is still known, and takes them back. The erasure in turn removes what
says "known" first, and looks for rows afterwards: so whoever of the two is later sees what the other did.
"""

from collections.abc import Collection

from indexing.domain import model, ports
from indexing.telemetry import logs
from indexing.usecases import control_job

USER_ERASED = "USER_ERASED"
"""Why the user's work ended when he was erased."""


class EraseUser:
    """Erases users."""

    def __init__(self, deps: ports.Dependencies, controls: control_job.JobControl, budgets: ports.UserBudgets) -> None:
        self._deps = deps
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
        counts = await self._deps.user_data.count(user_id)
        await self._deps.user_data.erase_user(user_id)
        await self._controls.stop_user_job(user_id, USER_ERASED)
        await erase_user_data(self._deps, user_id)
        await self._budgets.forget_user(user_id)
        found = {name: count for name, count in counts.items() if count}
        self._log.info("user_erased", **found)
        return found


async def erase_user_data(
    deps: ports.Dependencies, user_id: int, *, job_ids: Collection[str] = (), guild_ids: Collection[int] = ()
) -> None:
    """
    Erase what hangs on a user whose own row is gone.

    Args:
        deps: Where it is stored.
        user_id: The user.
        job_ids: Jobs of his that may be gone already, while something of them is left.
        guild_ids: Guilds besides those of his memberships.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: Calling again goes on with what is left.
    """
    jobs = {*job_ids, *await deps.user_data.list_jobs(user_id)}
    # Before the jobs, which say what streams there are.
    await deps.events.delete_streams(jobs)
    await deps.user_data.erase_jobs(jobs)
    await deps.user_data.erase_responses(user_id)
    await deps.user_data.erase_guilds({*guild_ids, *await deps.user_data.list_guilds(user_id)}, but=user_id)
    await deps.user_data.erase_roster(user_id)


async def compensate_if_user_erased(deps: ports.Dependencies, job: model.Job, guild_ids: Collection[int] = ()) -> None:
    """
    Erase what a turn wrote of a user who was erased meanwhile. One round trip when all is well.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: It stays until its time to live is over.
    """
    if not await deps.users.exists(job.user_id):
        await erase_user_data(deps, job.user_id, job_ids=[job.job_id], guild_ids=guild_ids)
