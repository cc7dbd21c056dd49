"""Stores of several processes over one database, which migrate it and read what is in it."""

import dataclasses
import itertools
import time
from typing import Any

from indexing.domain import freshness, model, ports
from indexing.store import credentials, database, erasure, guilds, jobs, migrations, schema, users
from indexing.store.rows import channels, memberships, units, user_data
from tests import clockwork
from tests.contract import old_form

NOW = clockwork.START
VAULT = credentials.Vault((b"k" * 32,))
GUILD_IDS = range(old_form.FIRST_GUILD, old_form.FIRST_GUILD + old_form.GUILDS)
USER_IDS = range(old_form.FIRST_USER, old_form.FIRST_USER + old_form.USERS)
JOB_IDS = [f"{number:032x}" for number in range(old_form.JOBS)]
G, U, JOB = old_form.FIRST_GUILD, old_form.FIRST_USER, "b" * 32


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one process."""

    users: ports.Users
    guilds: ports.Guilds
    jobs: ports.Jobs
    user_data: ports.UserData


def of_documents(db: database.Database) -> Stores:
    """Return the stores of a process that began with documents."""
    return Stores(users.Users(db, VAULT), guilds.Guilds(db), jobs.Jobs(db, retention=3600.0), erasure.MongoUserData(db))


def of_rows(db: database.Database, state: schema.State = schema.State.ROWS, *, attentive: bool = True) -> Stores:
    """Return the stores of a process that began with rows; an attentive one looks at the state each time."""
    form = schema.Schema(db, state, itertools.count(0.0, 10.0).__next__ if attentive else time.monotonic)
    return Stores(
        memberships.RowUsers(db, VAULT, form, lambda: NOW),
        channels.RowGuilds(db, form),
        units.RowJobs(db, form, retention=3600.0),
        user_data.RowUserData(db, form),
    )


async def migrate(db: database.Database, **options: Any) -> None:  # noqa: ANN401 -- any argument
    """Migrate without waiting."""
    await migrations.Migrator(db, **{"clock": lambda: NOW, "settle": 0.0, **options}).migrate()


async def snapshot(stores: Stores) -> list[object]:
    """Return all that is stored, but for what only one form has: versions and fingerprints."""
    indexed = await stores.guilds.load(GUILD_IDS)
    found: list[object] = []
    for guild_id in GUILD_IDS:
        one = indexed[guild_id]
        schedule = dataclasses.replace(one.guild.schedule, fingerprint="")
        found.append(dataclasses.replace(one, version=0, guild=dataclasses.replace(one.guild, schedule=schedule)))
    for user_id in USER_IDS:
        user = await stores.users.load(user_id)
        assert user is not None
        found.append(dataclasses.replace(user, version=0))
        found.append(set(await stores.user_data.list_guilds(user_id)))
    found += [await stores.jobs.load(job_id) for job_id in JOB_IDS]
    found += [await stores.jobs.list_for_user(user_id, before=NOW + 1, limit=5) for user_id in USER_IDS]
    return found


async def listed(store: ports.Guilds, guild_id: int, rows: list[model.Channel], *, at: float) -> bool:
    """Fetch a guild as a worker does; False when it was left to another one."""
    guild = (await store.get([guild_id]))[guild_id]
    fence = await store.acquire_lease(guild_id, now=at, until=at + 25, fetched_before=at)
    if fence is None:
        return False
    schedule = model.Schedule(fingerprint=freshness.fingerprint(rows))
    return await store.store_channels(guild_id, model.Listing(fence, rows, at, schedule, guild))
