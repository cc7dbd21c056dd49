"""The backend of the tests of turns: one user in seven guilds that differ only in age; the oldest ranks first."""

from indexing.domain import model
from tests import fake_backend, values

USER = values.USER
JOB = "a" * 32
GUILDS = [10, 20, 30, 40, 50, 60, 70]
ROLE = 5


def for_role(guild_id: int) -> list[model.Channel]:
    """Return channels of which one depends on a role."""
    hidden = (values.denied(guild_id), values.allowed(ROLE))
    return [values.channel(guild_id + 1, guild_id), values.channel(guild_id + 2, guild_id, overwrites=hidden)]


async def make() -> fake_backend.FakeBackend:
    """Return the backend."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    return made
