"""
Erase a user: everything stored about them, and the guilds that only they brought.

Work that runs during the erasure may still write. Writes to deleted rows change nothing. Code that creates rows checks
afterwards whether the user is still known, and compensates: it erases its late writes. The erasure deletes the row
that makes the user known first, and looks for other rows afterwards, so that the later of the two sees the other's
effect.
"""

from collections.abc import Collection

from indexing.domain import model, ports
from indexing.telemetry import logs
from indexing.usecases import control_job

USER_ERASED = "USER_ERASED"
"""Reason of a job that ended with the erasure of its user."""


class EraseUser:
    """Erases users."""

    def __init__(self, deps: ports.Dependencies, controls: control_job.JobControl, budgets: ports.UserBudgets) -> None:
        self._deps = deps
        self._controls = controls
        self._budgets = budgets
        self._log = logs.get(__name__)

    async def erase(self, user_id: int) -> dict[str, int]:
        """
        Erase a user; returns the number of deleted documents by collection. An unknown user is no error.

        Documents are counted first, because turns that notice the erasure delete some themselves. The user's row goes
        first, so that no new work begins; then the job is ended, for turns and watchers; then the rest. The call is
        idempotent: repeat it after a crash, since everything is found by the user's id until it is deleted.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable, errors.LimiterUnavailable: Call again.
        """
        counts = await self._deps.user_data.count(user_id)
        job_ids = await self._deps.user_data.list_jobs(user_id)
        await self._deps.user_data.erase_user(user_id)
        await self._controls.stop_user_job(user_id, USER_ERASED)
        await erase_user_data(self._deps, user_id, job_ids=job_ids)
        await self._budgets.forget_user(user_id)
        found = {name: count for name, count in counts.items() if count}
        self._log.info("user_erased", **found)
        return found


async def erase_user_data(
    deps: ports.Dependencies, user_id: int, *, job_ids: Collection[str] = (), guild_ids: Collection[int] = ()
) -> None:
    """
    Erase everything of a user whose own row is deleted.

    What is found is erased only if the user is still unknown afterwards: a user who has come back meanwhile keeps what
    is new.

    Args:
        deps: The stores.
        user_id: The user.
        job_ids: Jobs from before the row was deleted; they may be deleted while their tasks or streams are not.
        guild_ids: Guilds besides those of the user's memberships.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: Calling again continues.
    """
    jobs = {*job_ids, *await deps.user_data.list_jobs(user_id)}
    guilds = {*guild_ids, *await deps.user_data.list_guilds(user_id)}
    if await deps.users.exists(user_id):
        await deps.events.delete_streams(job_ids)
        await deps.user_data.erase_jobs(job_ids)
        return
    # Before the jobs, whose ids name the streams.
    await deps.events.delete_streams(jobs)
    await deps.user_data.erase_jobs(jobs)
    await deps.user_data.erase_responses(user_id)
    await deps.user_data.erase_guilds(guilds, but=user_id)
    await deps.user_data.erase_roster(user_id)


async def compensate_if_user_erased(deps: ports.Dependencies, job: model.Job, guild_ids: Collection[int] = ()) -> None:
    """
    Erase what a turn wrote if its user was erased meanwhile. One round trip when they were not.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: The late writes stay until they expire.
    """
    if not await deps.users.exists(job.user_id):
        await erase_user_data(deps, job.user_id, job_ids=[job.job_id], guild_ids=guild_ids)
