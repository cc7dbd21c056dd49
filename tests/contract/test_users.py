"""Users: credentials, preferences, guild lists and roles, as one version each."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from indexing import errors
from indexing.domain import model, ports
from tests import clockwork, stored, values
from tests.contract import conftest

NOW = clockwork.START
OTHER = values.USER + 1
ROLES = (values.GUILD + 5, values.GUILD + 6)


@pytest.fixture
def users(stores: conftest.Stores) -> ports.Users:
    """Users, none of them known."""
    return stores.users


async def test_the_credential_is_unchanged_when_it_was_stored(users: ports.Users) -> None:
    """Field by field."""
    put = ports.Credential("the access token", "the refresh token", NOW + 604_800.5, ("identify", "guilds"))

    await users.put_credential(values.USER, put)

    assert await users.credential(values.USER) == put


async def test_the_newest_credential_counts_when_it_was_stored_again(users: ports.Users) -> None:
    """A second credential replaces the first."""
    await users.put_credential(values.USER, values.credential(expires_at=NOW))

    await users.put_credential(values.USER, values.credential(access_token="second", expires_at=None))

    assert await users.credential(values.USER) == values.credential(access_token="second")


async def test_the_missing_credential_is_named_when_there_is_none(users: ports.Users) -> None:
    """Another user's credential does not count."""
    await users.put_credential(OTHER, values.credential())

    with pytest.raises(errors.CredentialMissing) as missing:
        await users.credential(values.USER)

    assert missing.value.user_id == values.USER


async def test_the_credential_is_usable_again_when_the_user_logs_in_after_a_refusal(stores: conftest.Stores) -> None:
    """A new consent ends the refusal."""
    users = stores.users
    await users.put_credential(values.USER, values.credential())
    version = (await stores.credentials.get(values.USER)).version
    assert await stores.credentials.mark_refused(values.USER, version=version, shown_until=0.0)

    await users.put_credential(values.USER, values.credential(access_token="renewed"))

    assert (await users.credential(values.USER)).access_token == "renewed"


async def loaded(users: ports.Users, user_id: int = values.USER) -> model.User:
    """Return the user, who must be known."""
    found = await users.load(user_id)
    assert found is not None
    return found


async def in_guild(users: ports.Users, **changes: Any) -> tuple[model.User, model.Membership]:  # noqa: ANN401 -- any field
    """Store a list of one guild, requested now; returns the user and their membership."""
    await stored.guild_list(users, values.USER, [values.user_guild(1, **changes)], NOW)
    user = await loaded(users)
    return user, user.memberships[1]


async def test_a_user_is_known_when_a_credential_or_preferences_are_stored(users: ports.Users) -> None:
    """Either is enough; a user with neither is unknown."""
    await users.put_credential(values.USER, values.credential())
    await users.put_preferences(OTHER, model.Preferences())

    known = [await users.exists(user) for user in (values.USER, OTHER, OTHER + 1)]

    assert known == [True, True, False]
    assert await users.load(OTHER + 1) is None
    assert (await users.versions([values.USER, OTHER, OTHER + 1])).keys() == {values.USER, OTHER}
    assert await users.versions([]) == {}


async def test_a_user_has_nothing_but_a_credential_when_only_that_was_stored(users: ports.Users) -> None:
    """There is no guild list and no time of one."""
    await users.put_credential(values.USER, values.credential())

    found = await loaded(users)
    assert found == model.User(values.USER, found.version, None, {}, model.Preferences())


async def test_preferences_keep_their_order_when_they_are_stored(users: ports.Users) -> None:
    """The order of pinned guilds is the user's own."""
    preferences = model.Preferences(pinned=(9, 3, 7), muted=(8, 1))

    await users.put_preferences(values.USER, preferences)

    assert (await loaded(users)).preferences == preferences
    assert await users.load(OTHER) is None


async def test_preferences_are_replaced_whole_when_they_change(users: ports.Users) -> None:
    """Guilds that the new preferences do not have are dropped, and the credential stays."""
    await users.put_credential(values.USER, values.credential())
    await users.put_preferences(values.USER, model.Preferences(pinned=(9, 3), muted=(8,)))

    await users.put_preferences(values.USER, model.Preferences(pinned=(3,)))

    assert (await loaded(users)).preferences == model.Preferences(pinned=(3,))
    assert await users.credential(values.USER) == values.credential()


async def test_memberships_hold_what_discord_listed_when_a_list_is_stored(users: ports.Users) -> None:
    """Owner and permissions, all 63 bits of them, are kept for each guild; roles are not known yet."""
    every_bit = (1 << 63) - 1
    rows = [values.user_guild(1, owner=True), values.user_guild(2, permissions=every_bit)]

    await stored.guild_list(users, values.USER, rows, NOW)

    assert (await loaded(users)).memberships == {
        1: values.membership(guild_id=1, owner=True, roles_changed_at=NOW),
        2: values.membership(guild_id=2, permissions=every_bit, roles_changed_at=NOW),
    }


async def test_a_large_list_is_stored_whole_when_the_user_has_the_most_guilds(users: ports.Users) -> None:
    """200 guilds are the most that a user can be in."""
    rows = [values.user_guild(guild_id) for guild_id in range(1, 201)]

    await stored.guild_list(users, values.USER, rows, NOW)

    assert (await loaded(users)).memberships.keys() == set(range(1, 201))


async def test_permissions_are_updated_when_the_list_is_fetched_again(users: ports.Users) -> None:
    """The latest list counts: lost permissions and ownership are gone."""
    await in_guild(users, owner=True, permissions=values.ADMINISTRATOR)

    await stored.guild_list(users, values.USER, [values.user_guild(1, permissions=0)], NOW + 60)

    found = await stored.member(users, values.USER, 1)
    assert found == values.membership(guild_id=1, permissions=0, roles_changed_at=NOW + 60)


async def test_a_membership_ends_when_the_list_no_longer_names_the_guild(users: ports.Users) -> None:
    """The memberships of other users stay."""
    await stored.guild_list(users, values.USER, [values.user_guild(1), values.user_guild(2)], NOW)
    await stored.guild_list(users, OTHER, [values.user_guild(1)], NOW)

    await stored.guild_list(users, values.USER, [values.user_guild(2)], NOW + 60)

    assert (await loaded(users)).memberships.keys() == {2}
    assert (await loaded(users, OTHER)).memberships.keys() == {1}


async def test_all_memberships_end_when_the_list_is_empty(users: ports.Users) -> None:
    """An empty list is a list."""
    await in_guild(users)

    await stored.guild_list(users, values.USER, [], NOW + 60)

    assert (await loaded(users)).memberships == {}


async def test_the_time_of_the_last_list_is_known_when_one_was_stored(users: ports.Users) -> None:
    """An empty or unchanged list counts as well."""
    await users.put_credential(values.USER, values.credential())
    times = [(await loaded(users)).listed_at]
    for later, rows in ((0, [values.user_guild(1)]), (60, [values.user_guild(1)]), (120, [])):
        await stored.guild_list(users, values.USER, rows, NOW + later)
        times.append((await loaded(users)).listed_at)

    assert times == [None, NOW, NOW + 60, NOW + 120]


async def test_the_user_stays_unknown_when_a_list_of_an_unknown_user_is_stored(users: ports.Users) -> None:
    """They were erased during the request to Discord."""
    known, _ = model.User(OTHER, 0, None, {}, model.Preferences()), await in_guild(users)

    written = await users.replace_guild_list(known, [values.user_guild(1)], NOW)

    assert not written
    assert not await users.exists(OTHER)


async def test_roles_stay_when_the_list_names_the_guild_again(users: ports.Users) -> None:
    """Role ids and their age are not touched by a new list that says the same."""
    await in_guild(users)
    await stored.roles(users, values.USER, 1, ROLES, NOW + 1)

    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW + 60)

    found = await stored.member(users, values.USER, 1)
    assert found == values.membership(guild_id=1, role_ids=ROLES, roles_at=NOW + 1, roles_changed_at=NOW + 1)


@pytest.mark.parametrize("rights", [{"permissions": 0}, {"owner": True}], ids=str)
async def test_the_roles_of_one_guild_are_forgotten_when_the_list_gives_other_rights_there(
    users: ports.Users, rights: dict[str, Any]
) -> None:
    """Rights follow from roles, so that these may have changed as well; roles in other guilds stay."""
    await stored.guild_list(users, values.USER, [values.user_guild(1), values.user_guild(2)], NOW)
    for guild_id in (1, 2):
        await stored.roles(users, values.USER, guild_id, ROLES, NOW + 1)

    rows = [values.user_guild(1, **rights), values.user_guild(2)]
    await stored.guild_list(users, values.USER, rows, NOW + 60)

    assert (await loaded(users)).memberships == {
        1: values.membership(guild_id=1, roles_changed_at=NOW + 60, **rights),
        2: values.membership(guild_id=2, role_ids=ROLES, roles_at=NOW + 1, roles_changed_at=NOW + 1),
    }


async def test_no_roles_differ_from_unknown_ones_when_a_member_has_none(users: ports.Users) -> None:
    """An empty set of roles is knowledge."""
    await in_guild(users)

    await stored.roles(users, values.USER, 1, (), NOW)

    found = await stored.member(users, values.USER, 1)
    assert found is not None
    assert (found.role_ids, found.roles_at) == ((), NOW)


async def test_role_ids_are_sorted_and_distinct_when_discord_repeats_them(users: ports.Users) -> None:
    """They are a set: Discord guarantees no order."""
    await in_guild(users)

    await stored.roles(users, values.USER, 1, (9, 3, 9, (1 << 63) - 1), NOW)

    found = await stored.member(users, values.USER, 1)
    assert found is not None
    assert found.role_ids == (3, 9, (1 << 63) - 1)


@pytest.mark.parametrize("noticed_by", ["list", "role-answer"])
async def test_roles_are_deleted_when_the_user_left_and_rejoined(users: ports.Users, noticed_by: str) -> None:
    """Discord removes a leaving member's roles, so that old ones must not open a channel afterwards."""
    await in_guild(users)
    await stored.roles(users, values.USER, 1, ROLES, NOW)
    if noticed_by == "list":
        await stored.guild_list(users, values.USER, [], NOW + 60)
    else:
        assert await stored.left(users, values.USER, 1)
    gone = await stored.member(users, values.USER, 1)

    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW + 120)

    assert gone is None
    found = await stored.member(users, values.USER, 1)
    assert found == values.membership(guild_id=1, roles_changed_at=NOW + 120)


async def test_nothing_is_stored_when_roles_arrive_for_an_unknown_membership(users: ports.Users) -> None:
    """Roles alone create no membership, for a known user or an unknown one."""
    await in_guild(users)
    before = await loaded(users)

    written = [
        await users.store_roles(values.membership(user_id=user_id, guild_id=2, roles_changed_at=NOW), ROLES, NOW)
        for user_id in (values.USER, OTHER)
    ]

    assert written == [False, False]
    assert await loaded(users) == before
    assert not await users.exists(OTHER)


Write = Callable[[ports.Users, model.User], Awaitable[bool]]
"""A write over what is known of a user in guild 1."""


async def same_list(users: ports.Users, known: model.User) -> bool:
    """Store a list that has the guild with the known rights."""
    return await users.replace_guild_list(known, [values.user_guild(1)], NOW + 5)


async def list_with_other_rights(users: ports.Users, known: model.User) -> bool:
    """Store a list that has the guild with other rights."""
    return await users.replace_guild_list(known, [values.user_guild(1, permissions=0)], NOW + 5)


async def list_without_the_guild(users: ports.Users, known: model.User) -> bool:
    """Store a list without the guild."""
    return await users.replace_guild_list(known, [], NOW + 5)


async def role_answer(users: ports.Users, known: model.User) -> bool:
    """Store roles that were requested a little later."""
    return await users.store_roles(known.memberships[1], ROLES, NOW + 6)


async def departure(users: ports.Users, known: model.User) -> bool:
    """Store that the user is no member."""
    return await users.mark_left(known.memberships[1])


OUTDATED: list[tuple[Write, Write]] = [
    *((first, second) for first in (role_answer, departure) for second in (role_answer, departure)),
    *(
        (first, second)
        for first in (list_with_other_rights, list_without_the_guild)
        for second in (role_answer, departure)
    ),
    *(
        (first, second)
        for first in (same_list, list_with_other_rights, list_without_the_guild)
        for second in (same_list, list_with_other_rights, list_without_the_guild)
    ),
]
"""A write, and one over the same knowledge that arrives after it and finds it outdated."""


@pytest.mark.parametrize(("first", "second"), OUTDATED, ids=lambda write: write.__name__)
async def test_a_late_write_changes_nothing_when_something_newer_is_stored(
    users: ports.Users, first: Write, second: Write
) -> None:
    """It returns that it was refused, and the version stays."""
    known, _ = await in_guild(users)
    assert await first(users, known)
    before = await loaded(users)

    written = await second(users, known)

    assert not written
    assert await loaded(users) == before


@pytest.mark.parametrize("late", [role_answer, departure], ids=lambda write: write.__name__)
async def test_a_late_write_changes_nothing_when_the_user_left_and_rejoined(users: ports.Users, late: Write) -> None:
    """Data of the old membership does not apply to the new one."""
    known, _ = await in_guild(users)
    await stored.guild_list(users, values.USER, [], NOW + 60)
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW + 120)
    before = await loaded(users)

    written = await late(users, known)

    assert not written
    assert await loaded(users) == before


@pytest.mark.parametrize("order", [1, -1], ids=["list-first", "answer-first"])
@pytest.mark.parametrize("answer", [role_answer, departure], ids=lambda write: write.__name__)
async def test_both_are_stored_when_a_list_with_the_same_rights_meets_another_write(
    users: ports.Users, answer: Write, order: int
) -> None:
    """Such a list says nothing about roles, and does not restore a membership that ended."""
    known, _ = await in_guild(users)

    written = [await write(users, known) for write in (same_list, answer)[::order]]

    user = await loaded(users)
    assert written == [True, True]
    assert user.listed_at == NOW + 5
    roles = values.membership(guild_id=1, role_ids=ROLES, roles_at=NOW + 6, roles_changed_at=NOW + 6)
    assert user.memberships == ({1: roles} if answer is role_answer else {})


async def test_a_membership_stays_ended_when_a_list_from_before_gives_other_rights(users: ports.Users) -> None:
    """The rest of the list is stored; a list over what is known afterwards may bring the user back."""
    known, _ = await in_guild(users)
    assert await departure(users, known)
    older = [values.user_guild(1, permissions=0), values.user_guild(2)]

    written = await users.replace_guild_list(known, older, NOW + 5)

    user = await loaded(users)
    assert (written, set(user.memberships), user.listed_at) == (True, {2}, NOW + 5)
    assert await users.replace_guild_list(user, older, NOW + 9)
    assert set((await loaded(users)).memberships) == {1, 2}


@pytest.mark.parametrize(
    ("late", "left"), [(list_with_other_rights, {1}), (list_without_the_guild, set())], ids=["other-rights", "without"]
)
async def test_the_roles_are_forgotten_when_a_list_with_other_rights_arrives_after_them(
    users: ports.Users, late: Write, left: set[int]
) -> None:
    """The list may be older or newer than the roles, so they are not used in either case."""
    known, _ = await in_guild(users)
    assert await role_answer(users, known)

    assert await late(users, known)

    found = (await loaded(users)).memberships
    assert found.keys() == left
    assert all((member.role_ids, member.roles_at, member.permissions) == (None, None, 0) for member in found.values())


async def test_one_list_is_stored_when_several_are_written_at_once(users: ports.Users) -> None:
    """One list is stored whole; the other writes are refused."""
    known, _ = await in_guild(users)
    lists = [[values.user_guild(10 * number + more) for more in range(3)] for number in range(1, 6)]

    written = await asyncio.gather(*(users.replace_guild_list(known, rows, NOW + 5) for rows in lists))

    assert sorted(written) == [False] * 4 + [True]
    (stored_list,) = [rows for rows, done in zip(lists, written, strict=True) if done]
    assert (await loaded(users)).memberships.keys() == {row.guild_id for row in stored_list}


async def test_other_preferences_stay_when_one_field_is_replaced(users: ports.Users) -> None:
    """Callers that change different fields do not overwrite each other."""
    await users.put_preferences(values.USER, model.Preferences(pinned=(9, 3), muted=(8,)))

    await users.put_preferences(values.USER, model.Preferences(muted=(7,)), ["muted"])
    assert (await loaded(users)).preferences == model.Preferences(pinned=(9, 3), muted=(7,))

    await users.put_preferences(values.USER, model.Preferences(), ["pinned"])
    assert (await loaded(users)).preferences == model.Preferences(muted=(7,))


async def test_the_version_grows_by_one_when_visibility_may_change(users: ports.Users) -> None:
    """A list counts by its time as well, and a credential. A view and unchanged roles do not count."""
    await users.put_preferences(values.USER, model.Preferences())
    first = (await loaded(users)).version
    grown: dict[str, int] = {}

    async def note(what: str) -> None:
        grown[what] = (await loaded(users)).version - first - sum(grown.values())
        assert await users.versions([values.USER]) == {values.USER: first + sum(grown.values())}

    await users.put_credential(values.USER, values.credential())
    await note("credential")
    await users.put_preferences(values.USER, model.Preferences(pinned=(1,)))
    await note("preferences")
    await stored.guild_list(users, values.USER, [values.user_guild(1), values.user_guild(2)], NOW)
    await note("list")
    await stored.roles(users, values.USER, 1, ROLES, NOW + 1)
    await note("first roles")
    await stored.roles(users, values.USER, 1, ROLES[::-1], NOW + 2)
    await note("same roles")
    await stored.roles(users, values.USER, 1, ROLES[:1], NOW + 3)
    await note("other roles")
    await stored.roles(users, values.USER, 2, (), NOW + 3)
    await note("no roles, known now")
    await users.mark_viewed(values.USER, 1, NOW)
    await note("view")
    await stored.guild_list(users, values.USER, [values.user_guild(1), values.user_guild(2)], NOW + 60)
    await note("same list")
    await stored.left(users, values.USER, 2)
    await note("left")

    assert grown == {
        "credential": 1,
        "preferences": 1,
        "list": 1,
        "first roles": 1,
        "same roles": 0,
        "other roles": 1,
        "no roles, known now": 1,
        "view": 0,
        "same list": 1,
        "left": 1,
    }


async def test_views_are_stored_when_a_user_opens_their_guild(users: ports.Users) -> None:
    """Not more often than every few minutes, only for members, and forgotten when they leave."""
    await stored.guild_list(users, values.USER, [values.user_guild()], NOW)
    seen = []
    for later in (0.0, 60.0, 300.0):
        await users.mark_viewed(values.USER, values.GUILD, NOW + later)
        await users.mark_viewed(OTHER, values.GUILD, NOW + later)
        found = await stored.member(users, values.USER, values.GUILD)
        assert found is not None
        seen.append(found.last_viewed_at)
    await stored.left(users, values.USER, values.GUILD)
    await users.mark_viewed(values.USER, values.GUILD, NOW + 900)
    away = await stored.member(users, values.USER, values.GUILD)
    await stored.guild_list(users, values.USER, [values.user_guild()], NOW + 1000)

    assert (seen, away) == ([NOW, NOW, NOW + 300], None)
    found = await stored.member(users, values.USER, values.GUILD)
    assert found == values.membership(roles_changed_at=NOW + 1000)
    assert not await users.exists(OTHER)


async def test_a_view_stays_when_the_list_gives_other_rights(users: ports.Users) -> None:
    """The time of a view does not depend on rights."""
    await in_guild(users)
    await users.mark_viewed(values.USER, 1, NOW + 1)

    await stored.guild_list(users, values.USER, [values.user_guild(1, permissions=0)], NOW + 60)

    found = await stored.member(users, values.USER, 1)
    assert found == values.membership(guild_id=1, permissions=0, last_viewed_at=NOW + 1, roles_changed_at=NOW + 60)
