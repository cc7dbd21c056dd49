"""
Generates docs/visibility.md by playing every state of every input of a visibility decision.

Each state starts from a guild that four users see in full, changes one input, and notes what is shown to each of them.
`make docs` writes the page; test_visibility_page.py compares it.
"""

import asyncio
import dataclasses
import json
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

from indexing import errors
from indexing.discord import payloads
from indexing.domain import model
from indexing.usecases import browse, page_cut
from tests import clockwork, fake_backend, fakes, stored, values

GUILD, ROLE, FRIEND = 300, 5, 9
OWNER, ADMIN, MEMBER, ROLED = 1, 2, 3, 4
VIEWERS = {OWNER: "owner", ADMIN: "administrator", MEMBER: "member", ROLED: "member with the role"}
RIGHTS = {OWNER: (True, values.VIEW), ADMIN: (False, values.VIEW | values.ADMINISTRATOR)}
TRANSIENT = [errors.DiscordTransient("502")] * 200
CLOSED = [{"id": str(GUILD), "type": 0, "allow": "0", "deny": str(values.VIEW)}]
FOR_ROLE = [*CLOSED, {"id": str(ROLE), "type": 0, "allow": str(values.VIEW), "deny": "0"}]
PAGE = pathlib.Path(__file__).parents[3] / "docs" / "visibility.md"
INTRO = """\
# What is shown when an input is missing, old or contradictory

Every decision about a channel has five inputs: the user's guild list (memberships, ownership, guild-wide \
permissions), their role ids, the guild's channels with their overwrites, the bot's access, and the user's consent.
Each of the first three carries the time at which it was requested, and is not trusted beyond its age: \
`INDEXING_ROLES_HARD_AGE` for the first two, `INDEXING_CHANNELS_HARD_AGE` for the third \
([decision 13](decisions/0013-permission-staleness.md)).

The table is what a guild's members see. The guild has three channels: `open` for everybody, `role` for one role, and \
`closed` for nobody but owners and administrators.
"Before" marks a viewer who sees the same as in the first line, "nothing" one who sees no channel. The last column is \
`Guild.reason`.

`make docs` generates this page by playing each line (`tests/unit/usecases/visibility_page.py`).
"""


def channel(channel_id: int, name: str, overwrites: Any = (), **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """Return a channel as Discord lists it."""
    return {"id": str(channel_id), "type": 0, "name": name, "permission_overwrites": overwrites, **more}


OPEN, FOR_ONE, HIDDEN = channel(11, "open"), channel(12, "role", FOR_ROLE), channel(13, "closed", CLOSED)


def guild_row(user: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """Return the guild in a user's list as Discord lists it."""
    owner, permissions = RIGHTS.get(user, (False, values.VIEW))
    return {"id": str(GUILD), "name": "guild", "owner": owner, "permissions": str(permissions), **more}


class World:
    """A guild, its viewers, and a friend whose jobs keep it fresh."""

    def __init__(self, backend: fake_backend.FakeBackend) -> None:
        self.backend = backend
        self.discord = backend.discord
        self._jobs = 0

    async def build(self) -> None:
        """Let all users be indexed."""
        self.list_channels(OPEN, FOR_ONE, HIDDEN)
        for user in (*VIEWERS, FRIEND):
            await self.backend.users.put_credential(user, values.credential())
            self.list_guilds(user, guild_row(user))
            self.discord.roles[user, GUILD] = (ROLE,) if user == ROLED else ()
        self.discord.installed.add(GUILD)
        await self.index()

    def list_channels(self, *rows: dict[str, Any]) -> None:
        """Set the guild's listing."""
        self.discord.channels[GUILD] = payloads.decode_channels(json.dumps(rows).encode(), GUILD)

    def list_guilds(self, user: int, *rows: dict[str, Any]) -> None:
        """Set a user's guild list."""
        self.discord.lists[user] = payloads.decode_guilds(json.dumps(rows).encode())

    async def index(self, *users: int) -> None:
        """Run a forced job for each user, by default for all."""
        for user in users or (*VIEWERS, FRIEND):
            self.backend.clock.advance(90.0)
            self._jobs += 1
            await self.backend.start_job(f"{self._jobs:032x}", user_id=user, force=True)
            await self.backend.run_all_turns()

    async def relist(self) -> None:
        """Store the viewers' guild lists as requested now."""
        for user in VIEWERS:
            await stored.guild_list(self.backend.users, user, self.discord.lists[user], self.backend.clock())

    async def seen(self) -> dict[int, tuple[str, str]]:
        """Return the names of the channels that each viewer sees, and the guild's reason."""
        reader = browse.Browse(
            self.backend.deps,
            self.backend.config,
            encode_channel=lambda row: row.name,
            encode_guild=lambda view: view.reason,
            monotonic=self.backend.clock,
        )
        found = {}
        for user in VIEWERS:
            names = (await reader.list_channels(user, page_cut.ChannelFilter(), after=None, size=9)).rows
            listed = (await reader.list_guilds(user, after=None, size=9)).rows
            found[user] = (", ".join(sorted(names)) or "nothing", listed[0] if listed else "not listed")
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """A state of an input, and how it is brought about."""

    input: str
    state: str
    what: str
    happen: Callable[[World], Awaitable[None]]


STATES: list[State] = []


def state(of: str, kind: str, what: str) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Register what brings a state about."""

    def register(happen: Callable[[World], Awaitable[None]]) -> None:
        STATES.append(State(of, kind, what, happen))

    return register


LIST, ROLES, CHANNELS, BOT = "guild list", "role ids", "channels", "bot's access"


@state("all", "fresh", "everything was fetched")
async def _(world: World) -> None:
    """Change nothing."""


@state(LIST, "missing", "has no time, as in data of unknown age")
async def _(world: World) -> None:
    world.backend.users.forget_times()


@state(LIST, "old", "others are indexed, the viewers are not")
async def _(world: World) -> None:
    world.backend.clock.advance(world.backend.config.roles_hard_age)
    await world.index(FRIEND)


@state(LIST, "contradictory", "names the guild twice, once with lesser rights")
async def _(world: World) -> None:
    for user in VIEWERS:
        world.list_guilds(user, guild_row(user), guild_row(user, owner=False, permissions=str(values.VIEW)))
    await world.index()


@state(LIST, "contradictory", "the rights cannot be read")
async def _(world: World) -> None:
    for user in VIEWERS:
        world.list_guilds(user, guild_row(user, permissions="-1"))
    await world.index(*VIEWERS)


@state(LIST, "failing", "every request fails, within its age")
async def _(world: World) -> None:
    world.discord.fail("list", *TRANSIENT)
    await world.index(*VIEWERS)


@state(ROLES, "missing", "neither the user's token nor the bot's may read them")
async def _(world: World) -> None:
    await left_and_rejoined(world, errors.NoAccess(403, 50_001))


@state(ROLES, "old", "the list is fresh, the roles are not")
async def _(world: World) -> None:
    world.backend.clock.advance(world.backend.config.roles_hard_age)
    await world.index(FRIEND)
    await world.relist()


@state(ROLES, "contradictory", "the list gives other rights than when the roles were fetched")
async def _(world: World) -> None:
    for user in VIEWERS:
        row = guild_row(user)
        world.list_guilds(user, row | {"permissions": str(int(row["permissions"]) | 1)})
    await world.relist()


@state(ROLES, "failing", "every request fails, within their age")
async def _(world: World) -> None:
    fail_roles(world, *TRANSIENT)
    await world.index(*VIEWERS)


@state(ROLES, "failing", "every request fails after the user left and came back")
async def _(world: World) -> None:
    await left_and_rejoined(world, *TRANSIENT)


@state(CHANNELS, "missing", "never fetched")
async def _(world: World) -> None:
    world.backend = dataclasses.replace(world.backend, guilds=fakes.MemoryGuilds(world.backend.users))
    await world.backend.guilds.upsert_guilds(world.discord.lists[FRIEND], {GUILD})


@state(CHANNELS, "missing", "`permission_overwrites` of `open` is missing or null")
async def _(world: World) -> None:
    world.list_channels(OPEN | {"permission_overwrites": None}, FOR_ONE, HIDDEN)
    await world.index(FRIEND)


@state(CHANNELS, "missing", "`open` is redacted")
async def _(world: World) -> None:
    world.list_channels(OPEN | {"flags": model.OBFUSCATED}, FOR_ONE, HIDDEN)
    await world.index(FRIEND)


@state(CHANNELS, "old", "list and roles are fresh, the guild was not fetched")
async def _(world: World) -> None:
    world.backend.clock.advance(world.backend.config.channels_hard_age)
    await world.relist()
    await stored.roles(world.backend.users, ROLED, GUILD, (ROLE,), world.backend.clock())


@state(CHANNELS, "contradictory", "`open` is listed twice, once closed to @everyone")
async def _(world: World) -> None:
    world.list_channels(OPEN, OPEN | {"permission_overwrites": CLOSED}, FOR_ONE, HIDDEN)
    await world.index(FRIEND)


@state(CHANNELS, "contradictory", "`role` has two overwrites for its role")
async def _(world: World) -> None:
    denial = {"id": str(ROLE), "type": 0, "allow": "0", "deny": str(values.VIEW)}
    world.list_channels(OPEN, FOR_ONE | {"permission_overwrites": [*FOR_ROLE, denial]}, HIDDEN)
    await world.index(FRIEND)


@state(CHANNELS, "contradictory", "an overwrite of unknown type denies the view of `open`")
async def _(world: World) -> None:
    denial = {"id": "77", "type": 2, "allow": "0", "deny": str(values.VIEW)}
    world.list_channels(OPEN | {"permission_overwrites": [denial]}, FOR_ONE, HIDDEN)
    await world.index(FRIEND)


@state(CHANNELS, "contradictory", "the row of `open` names another guild")
async def _(world: World) -> None:
    world.list_channels(OPEN | {"guild_id": "301"}, FOR_ONE, HIDDEN)
    await world.index(FRIEND)


@state(CHANNELS, "failing", "every request fails, within their age")
async def _(world: World) -> None:
    await failing(world, *TRANSIENT)


@state(CHANNELS, "failing", "404 although the bot is a member, within their age")
async def _(world: World) -> None:
    await failing(world, *[errors.Gone(404, 10_004)] * 2)


@state(CHANNELS, "failing", "the listing is too large, within their age")
async def _(world: World) -> None:
    await failing(world, errors.AnswerTooLarge(1))


@state(CHANNELS, "failing", "403 although the bot is a member")
async def _(world: World) -> None:
    await failing(world, *[errors.NoAccess(403, 50_001)] * 2)


@state(BOT, "old", "the bot was removed")
async def _(world: World) -> None:
    world.discord.installed.clear()
    await failing(world, errors.NoAccess(403, 50_001))


@state("consent", "missing", "the credential is revoked (`INDEXING_REVOKE_GRACE` 0)")
async def _(world: World) -> None:
    await end_consent(world, refused=False)


@state("consent", "old", "Discord refused the credential less than `INDEXING_REAUTH_GRACE` ago")
async def _(world: World) -> None:
    await end_consent(world, refused=True)


@state("consent", "old", "Discord refused the credential `INDEXING_REAUTH_GRACE` ago")
async def _(world: World) -> None:
    await end_consent(world, refused=True)
    world.backend.clock.advance(world.backend.config.reauth_grace)


@state("consent", "contradictory", "revoked, then stored again without a proof")
async def _(world: World) -> None:
    await end_consent(world, refused=False)
    for user in VIEWERS:
        await world.backend.users.put_unproven(user, values.credential())


@state("consent", "fresh", "revoked, then proven again")
async def _(world: World) -> None:
    await end_consent(world, refused=False)
    for user in VIEWERS:
        await world.backend.users.put_credential(user, values.credential())


async def end_consent(world: World, *, refused: bool) -> None:
    """End the consent of all viewers as the use cases do: by Discord's refusal, or by a revocation."""
    backend = world.backend
    until = backend.clock() + (backend.config.reauth_grace if refused else backend.config.revoke_grace)
    for user in VIEWERS:
        if refused:
            version = (await backend.credentials.get(user)).version
            await backend.credentials.mark_refused(user, version=version, shown_until=until)
        else:
            await backend.credentials.delete(user, shown_until=until)


async def failing(world: World, *problems: Exception) -> None:
    """Let a fetch of the guild fail."""
    world.discord.fail(GUILD, *problems)
    await world.index(FRIEND)


def fail_roles(world: World, *problems: Exception) -> None:
    """Let requests for the viewers' roles fail."""
    for user in VIEWERS:
        world.discord.fail((user, GUILD), *problems * 2)


async def left_and_rejoined(world: World, *problems: Exception) -> None:
    """Let the viewers leave and come back, so that nothing is known of their roles, and the requests for them fail."""
    for user in VIEWERS:
        await stored.left(world.backend.users, user, GUILD)
    fail_roles(world, *problems)
    await world.index(*VIEWERS)


async def play(one: State) -> dict[int, tuple[str, str]]:
    """Return what each viewer sees in a state."""
    world = World(fake_backend.make())
    await world.build()
    await one.happen(world)
    return await world.seen()


async def render() -> str:
    """Return the text of docs/visibility.md."""
    lines = [INTRO, f"| input | state | what happened | {' | '.join(VIEWERS.values())} | reason |", f"|{'---|' * 8}"]
    fresh = await play(STATES[0])
    for number, one in enumerate(STATES):
        seen = await play(one)
        cells = ["before" if number and seen[user][0] == fresh[user][0] else seen[user][0] for user in VIEWERS]
        why = ", ".join(sorted({reason for _, reason in seen.values() if reason})) or "none"
        lines.append(f"| {one.input} | {one.state} | {one.what} | {' | '.join(cells)} | {why} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=clockwork.Loop) as runner:
        PAGE.write_text(runner.run(render()), encoding="utf-8")
