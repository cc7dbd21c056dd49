"""
What is left of an erased user, and how it goes, whoever brings it back.

Work that runs while its user is erased writes a little longer. Writes to rows that are gone change nothing; what would
make new rows looks afterwards whether the user is still known, and takes them back. The erasure in turn removes what
says "known" first, and looks for rows afterwards: so whoever of the two is later sees what the other did.
"""

from collections.abc import Collection

from indexing.domain import model, ports


async def erase(
    world: ports.World, user_id: int, *, job_ids: Collection[str] = (), guild_ids: Collection[int] = ()
) -> None:
    """
    Erase what hangs on a user whose own row is gone.

    Args:
        world: Where it is.
        user_id: The user.
        job_ids: Jobs of his that may be gone already, while something of them is left.
        guild_ids: Guilds besides those of his memberships.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: Calling again goes on with what is left.
    """
    jobs = {*job_ids, *await world.remains.jobs(user_id)}
    # Before the jobs, which say what streams there are.
    await world.events.forget(jobs)
    await world.remains.erase_jobs(jobs)
    await world.remains.erase_answers(user_id)
    await world.remains.erase_guilds({*guild_ids, *await world.remains.guilds(user_id)}, but=user_id)
    await world.remains.erase_memberships(user_id)


async def take_back(world: ports.World, job: model.Job, guild_ids: Collection[int] = ()) -> None:
    """
    Erase what a turn wrote of a user who was erased meanwhile. One round trip when all is well.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: It stays until its time to live is over.
    """
    if not await world.users.known(job.user_id):
        await erase(world, job.user_id, job_ids=[job.job_id], guild_ids=guild_ids)


async def take_back_job(world: ports.World, job_id: str) -> None:
    """Erase what is left of a job that is gone, whosever it was; raises what `take_back` raises."""
    if await world.jobs.get(job_id) is None:
        await world.events.forget([job_id])
        await world.remains.erase_jobs([job_id])
