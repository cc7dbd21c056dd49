"""Users: credentials, wishes and memberships."""

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
    """Users, nobody known."""
    return stores.users


async def test_the_credential_comes_back_whole_when_it_was_stored(users: ports.Users) -> None:
    """What was put is what is read, field by field."""
    put = ports.Credential("the access token", "the refresh token", NOW + 604_800.5, ("identify", "guilds"))

    await users.put_credential(values.USER, put)

    assert await users.credential(values.USER) == put


async def test_the_newest_credential_counts_when_it_was_stored_again(users: ports.Users) -> None:
    """A second credential takes the place of the first."""
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
    assert await stores.credentials.mark_refused(values.USER, version=version)

    await users.put_credential(values.USER, values.credential(access_token="renewed"))

    assert (await users.credential(values.USER)).access_token == "renewed"


async def test_a_user_is_known_when_a_credential_or_wishes_are_stored(users: ports.Users) -> None:
    """Either is enough; who has neither is unknown."""
    await users.put_credential(values.USER, values.credential())
    await users.put_preferences(OTHER, model.Preferences())

    known = [await users.exists(user) for user in (values.USER, OTHER, OTHER + 1)]

    assert known == [True, True, False]


async def test_wishes_keep_their_order_when_they_are_stored(users: ports.Users) -> None:
    """The order of pinned guilds is the user's own."""
    wishes = model.Preferences(pinned=(9, 3, 7), muted=(8, 1))

    await users.put_preferences(values.USER, wishes)

    assert await users.get_preferences(values.USER) == wishes
    assert await users.get_preferences(OTHER) == model.Preferences()


async def test_wishes_are_replaced_whole_when_they_change(users: ports.Users) -> None:
    """What the new wishes do not name is not wished any more, and the credential stays."""
    await users.put_credential(values.USER, values.credential())
    await users.put_preferences(values.USER, model.Preferences(pinned=(9, 3), muted=(8,)))

    await users.put_preferences(values.USER, model.Preferences(pinned=(3,)))

    assert await users.get_preferences(values.USER) == model.Preferences(pinned=(3,))
    assert await users.credential(values.USER) == values.credential()


async def test_memberships_hold_what_discord_listed_when_a_list_is_stored(users: ports.Users) -> None:
    """Owner and permissions, all 63 bits of them, are kept for each guild; roles are not known yet."""
    every_bit = (1 << 63) - 1
    rows = [values.user_guild(1, owner=True), values.user_guild(2, permissions=every_bit)]

    await stored.guild_list(users, values.USER, rows, NOW)

    found = sorted(await users.memberships(values.USER), key=lambda row: row.guild_id)
    assert found == [
        values.membership(guild_id=1, owner=True),
        values.membership(guild_id=2, permissions=every_bit),
    ]


async def test_a_large_list_is_whole_when_the_user_has_all_guilds_he_can(users: ports.Users) -> None:
    """200 guilds are the most that a user can be in."""
    rows = [values.user_guild(guild_id) for guild_id in range(1, 201)]

    await stored.guild_list(users, values.USER, rows, NOW)

    assert {row.guild_id for row in await users.memberships(values.USER)} == set(range(1, 201))


async def test_permissions_follow_when_the_list_is_read_again(users: ports.Users) -> None:
    """The latest list counts: who lost a permission or the ownership has lost it."""
    await stored.guild_list(
        users, values.USER, [values.user_guild(1, owner=True, permissions=values.ADMINISTRATOR)], NOW
    )

    await stored.guild_list(users, values.USER, [values.user_guild(1, permissions=0)], NOW + 60)

    assert await values.stored_membership(users, values.USER, 1) == values.membership(guild_id=1, permissions=0)


async def test_a_membership_ends_when_the_list_no_longer_names_the_guild(users: ports.Users) -> None:
    """It is found neither alone nor among all; other users' memberships stay."""
    await stored.guild_list(users, values.USER, [values.user_guild(1), values.user_guild(2)], NOW)
    await stored.guild_list(users, OTHER, [values.user_guild(1)], NOW)

    await stored.guild_list(users, values.USER, [values.user_guild(2)], NOW + 60)

    assert [row.guild_id for row in await users.memberships(values.USER)] == [2]
    assert await values.stored_membership(users, values.USER, 1) is None
    assert await values.stored_membership(users, OTHER, 1) is not None


async def test_all_memberships_end_when_the_list_is_empty(users: ports.Users) -> None:
    """An empty list is a list."""
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW)

    await stored.guild_list(users, values.USER, [], NOW + 60)

    assert await users.memberships(values.USER) == []


async def test_the_time_of_the_last_list_is_known_when_one_was_stored(users: ports.Users) -> None:
    """An empty or unchanged list counts; for others there is none, and nobody becomes known by it."""
    await users.put_credential(values.USER, values.credential())
    await stored.guild_list(users, OTHER, [values.user_guild(1)], NOW)
    times = [await users.guild_list_time(values.USER)]
    for later, rows in ((0, [values.user_guild(1)]), (60, [values.user_guild(1)]), (120, [])):
        await stored.guild_list(users, values.USER, rows, NOW + later)
        times.append(await users.guild_list_time(values.USER))

    assert times == [None, NOW, NOW + 60, NOW + 120]
    assert await users.guild_list_time(OTHER) is None
    assert not await users.exists(OTHER)


async def test_roles_stay_when_the_list_names_the_guild_again(users: ports.Users) -> None:
    """Role ids and their age are not touched by a new list that says the same."""
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW)
    await stored.roles(users, values.USER, 1, ROLES, NOW + 1)

    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW + 60)

    found = await values.stored_membership(users, values.USER, 1)
    assert found == values.membership(guild_id=1, role_ids=ROLES, roles_at=NOW + 1)


@pytest.mark.parametrize("rights", [{"permissions": 0}, {"owner": True}], ids=str)
async def test_roles_are_not_known_any_more_when_the_list_gives_other_rights(
    users: ports.Users, rights: dict[str, Any]
) -> None:
    """Rights follow from roles, so that these may be others as well."""
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW)
    await stored.roles(users, values.USER, 1, ROLES, NOW + 1)

    await stored.guild_list(users, values.USER, [values.user_guild(1, **rights)], NOW + 60)

    found = await values.stored_membership(users, values.USER, 1)
    assert found is not None
    assert found.roles_at is None


async def test_no_roles_differ_from_unknown_ones_when_a_member_has_none(users: ports.Users) -> None:
    """An empty set of roles is knowledge."""
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW)

    await stored.roles(users, values.USER, 1, (), NOW)

    found = await values.stored_membership(users, values.USER, 1)
    assert found is not None
    assert found.role_ids == ()


async def test_roles_are_forgotten_when_the_user_left_and_came_back(users: ports.Users) -> None:
    """Discord takes all roles from who leaves, so that old ones must not open a channel to him afterwards."""
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW)
    await stored.roles(users, values.USER, 1, ROLES, NOW)
    await stored.guild_list(users, values.USER, [], NOW + 60)

    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW + 120)

    assert await values.stored_membership(users, values.USER, 1) == values.membership(guild_id=1)


async def test_roles_are_forgotten_when_discord_said_that_he_is_no_member(users: ports.Users) -> None:
    """The same when the departure was noticed by asking for his roles."""
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW)
    await stored.roles(users, values.USER, 1, ROLES, NOW)

    await stored.left(users, values.USER, 1)

    assert await values.stored_membership(users, values.USER, 1) is None
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW + 120)
    assert await values.stored_membership(users, values.USER, 1) == values.membership(guild_id=1)


async def test_late_roles_are_dropped_when_the_user_has_left_meanwhile(users: ports.Users) -> None:
    """An answer that was under way when he left does not come back with him."""
    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW)
    await stored.guild_list(users, values.USER, [], NOW + 60)

    await stored.roles(users, values.USER, 1, ROLES, NOW + 61)

    await stored.guild_list(users, values.USER, [values.user_guild(1)], NOW + 120)
    assert await values.stored_membership(users, values.USER, 1) == values.membership(guild_id=1)


async def test_nothing_is_stored_when_roles_come_for_an_unknown_membership(users: ports.Users) -> None:
    """Roles alone make nobody a member."""
    await stored.roles(users, values.USER, 1, ROLES, NOW)

    assert await values.stored_membership(users, values.USER, 1) is None
    assert await users.memberships(values.USER) == []


async def test_looks_are_noted_when_a_user_opens_his_guild(users: ports.Users) -> None:
    """Not more often than every few minutes, only for members, and forgotten when he leaves."""
    await stored.guild_list(users, values.USER, [values.user_guild()], NOW)
    seen = []
    for later in (0.0, 60.0, 300.0):
        await users.mark_viewed(values.USER, values.GUILD, NOW + later)
        await users.mark_viewed(OTHER, values.GUILD, NOW + later)
        found = await values.stored_membership(users, values.USER, values.GUILD)
        assert found is not None
        seen.append(found.last_viewed_at)
    await stored.left(users, values.USER, values.GUILD)
    await stored.guild_list(users, values.USER, [values.user_guild()], NOW + 500)

    assert seen == [NOW, NOW, NOW + 300]
    assert await values.stored_membership(users, values.USER, values.GUILD) == values.membership()
    assert await values.stored_membership(users, OTHER, values.GUILD) is None


async def test_ended_memberships_are_erased_when_they_are_purged(users: ports.Users) -> None:
    """Present ones stay, however old; one that ended later stays, too."""
    rows = [values.user_guild(values.GUILD + number) for number in range(3)]
    await stored.guild_list(users, values.USER, rows, NOW)
    await stored.left(users, values.USER, rows[0].guild_id)
    await stored.left(users, values.USER, rows[1].guild_id)

    counts = [await users.purge(NOW + later) for later in (5, 15, 15)]

    assert counts == [0, 1, 0]
    assert [row.guild_id for row in await users.memberships(values.USER)] == [rows[2].guild_id]
