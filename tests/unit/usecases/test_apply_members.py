"""Member events: what they store of users that are known, and that others' writes win nothing by being late."""

import pytest

from indexing.domain import feed, model
from indexing.usecases import apply_members
from tests import clockwork, fakes, values

USER, STRANGER = values.USER, values.USER + 1
GUILD, OTHER = values.GUILD, values.GUILD + 1_000


class Case:
    """One user in two guilds, and the writer."""

    def __init__(self) -> None:
        self.users = fakes.MemoryUsers()
        self.clock = clockwork.ManualClock()
        self.writer = apply_members.MemberWriter(self.users, self.clock)

    async def member(self, guild_id: int = GUILD) -> model.Membership | None:
        """Return the user's membership."""
        user = await self.users.load(USER)
        assert user is not None
        return user.memberships.get(guild_id)


@pytest.fixture
async def case() -> Case:
    """Nothing is known of the user's roles."""
    made = Case()
    await made.users.put_credential(USER, values.credential())
    known = await made.users.load(USER)
    assert known is not None
    await made.users.replace_guild_list(known, [values.user_guild(GUILD), values.user_guild(OTHER)], clockwork.START)
    made.clock.advance(10.0)
    return made


def told(*roles: int, user: int = USER, guild_id: int = GUILD) -> feed.MemberChanged:
    """Return an event with these roles."""
    return feed.MemberChanged(guild_id, user, roles)


async def test_role_ids_are_those_of_the_latest_event(case: Case) -> None:
    """They are as old as the event's arrival."""
    assert await case.writer.apply([told(7), told(7, 8)]) == 1

    found = await case.member()
    assert found is not None
    assert (found.role_ids, found.roles_at) == ((7, 8), clockwork.START + 10.0)


async def test_nothing_is_written_when_the_roles_are_known(case: Case) -> None:
    """Every change of a name is such an event."""
    await case.writer.apply([told(7)])

    assert await case.writer.apply([told(7)]) == 0


async def test_the_membership_ends_when_the_member_left(case: Case) -> None:
    """The user's other memberships stay."""
    assert await case.writer.apply([feed.MemberChanged(GUILD, USER, None)]) == 1

    assert await case.member() is None
    assert await case.member(OTHER) is not None


async def test_nothing_is_stored_when_user_or_membership_is_unknown(case: Case) -> None:
    """Of strangers nothing is kept."""
    assert await case.writer.apply([told(7, user=STRANGER), told(7, guild_id=5)]) == 0

    assert not await case.users.exists(STRANGER)


async def test_the_event_is_stored_when_another_answer_was_stored_meanwhile(case: Case) -> None:
    """A response to an older request that is stored between reading and writing does not stay."""
    store_roles, asked = case.users.store_roles, await case.member()
    assert asked is not None

    async def meanwhile(known: model.Membership, roles: tuple[int, ...], asked_at: float) -> bool:
        case.users.store_roles = store_roles  # type: ignore[method-assign]  # once
        assert await store_roles(asked, (5,), asked_at - 1.0)
        return await store_roles(known, roles, asked_at)

    case.users.store_roles = meanwhile  # type: ignore[method-assign,assignment]  # as above

    assert await case.writer.apply([told(7)]) == 1
    found = await case.member()
    assert found is not None
    assert found.role_ids == (7,)
