"""
Which channels a user may see.

The table is made by hand from Discord's documentation (topics/permissions.mdx, read 2026-08-06); each part names its
section. test_permissions_proof.py compares with a transcription of the algorithm that is printed there.
"""

import pytest

from indexing.domain import model, permissions
from tests import values

GUILD, USER, OTHER = values.GUILD, values.USER, values.USER + 1
VIEW, ADMINISTRATOR = 1 << 10, 1 << 3
MANAGE_CHANNELS = permissions.MANAGE_CHANNELS
CATEGORY = 4


def channel(*overwrites: model.Overwrite) -> model.Channel:
    """Return a channel with these overwrites."""
    return values.channel(1, overwrites=overwrites)


@pytest.mark.parametrize(
    ("member", "roles", "overwrites", "shown"),
    [
        # Section Permission Hierarchy: the owner, ADMINISTRATOR, and what @everyone and all roles allow together.
        pytest.param({}, (), [], True, id="base-permissions-allow"),
        pytest.param({"permissions": 0}, (), [], False, id="base-permissions-lack-it"),
        pytest.param({"permissions": 0, "owner": True}, (), [values.denied(GUILD)], True, id="owner-sees-all"),
        pytest.param(
            {"permissions": ADMINISTRATOR},
            (11,),
            [values.denied(GUILD), values.denied(11), values.denied(USER, 1)],
            True,
            id="administrator-overrides-any-overwrites",
        ),
        # Section Permission Overwrites: first @everyone, then all roles pooled, then the member.
        pytest.param({}, (), [values.denied(GUILD)], False, id="everyone-overwrite-denies"),
        pytest.param({"permissions": 0}, (), [values.allowed(GUILD)], True, id="everyone-overwrite-allows"),
        pytest.param({}, (11,), [values.denied(GUILD), values.allowed(11)], True, id="role-allow-after-everyone-deny"),
        pytest.param({}, (12,), [values.denied(GUILD), values.allowed(11)], False, id="role-of-others-helps-nobody"),
        pytest.param({}, (11,), [values.denied(11)], False, id="role-denies"),
        pytest.param({}, (11, 12), [values.denied(11), values.allowed(12)], True, id="role-allow-beats-role-deny"),
        pytest.param({}, (12, 11), [values.allowed(12), values.denied(11)], True, id="role-order-does-not-matter"),
        pytest.param({}, (), [values.denied(USER, 1)], False, id="member-overwrite-denies"),
        pytest.param({}, (11,), [values.allowed(11), values.denied(USER, 1)], False, id="member-deny-beats-role-allow"),
        pytest.param(
            {},
            (11,),
            [values.denied(GUILD), values.denied(11), values.allowed(USER, 1)],
            True,
            id="member-allow-beats-all-denies",
        ),
        pytest.param({}, (), [values.denied(OTHER, 1)], True, id="overwrite-of-another-member"),
        pytest.param({}, (11,), [values.denied(11, 1)], True, id="member-overwrite-is-not-a-role's"),
        pytest.param({}, (), [values.denied(USER, 0)], True, id="role-overwrite-is-not-a-member's"),
        # Section Implicit Permissions: VIEW_CHANNEL alone decides, and nothing makes up for it.
        pytest.param({}, (), [model.Overwrite(GUILD, 0, 0, 1 << 11)], True, id="other-permissions-do-not-matter"),
        pytest.param({"permissions": ~VIEW & ((1 << 63) - 1) & ~8}, (), [], False, id="all-but-view-shows-nothing"),
        pytest.param({}, (), [model.Overwrite(GUILD, 0, 8, VIEW)], False, id="administrator-by-overwrite-is-nothing"),
        # resources/channel.mdx, Overwrite Object: type 0 is a role, 1 a member; others are not documented.
        pytest.param({}, (), [values.denied(GUILD, 7)], False, id="unknown-kind-of-overwrite-denies"),
        pytest.param({"permissions": 0}, (), [values.allowed(GUILD, 7)], False, id="unknown-kind-of-overwrite-allows"),
        pytest.param({}, (), [values.denied(GUILD), values.allowed(GUILD)], False, id="everyone-twice"),
        pytest.param({}, (11,), [values.allowed(11), values.denied(11)], False, id="a-role-twice"),
        pytest.param({}, (11,), [values.denied(GUILD), *[values.allowed(11)] * 2], True, id="a-role-twice-the-same"),
        pytest.param({}, (GUILD,), [values.denied(GUILD), values.allowed(11)], False, id="everyone-listed-as-a-role"),
    ],
)
def test_a_channel_is_shown_when_discord_would_show_it(
    member: dict[str, object],
    roles: tuple[int, ...],
    overwrites: list[model.Overwrite],
    shown: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Case by case as the documentation's sections on base permissions and overwrites have it."""
    row = channel(*overwrites)

    found = permissions.visible_channels(values.membership(**member), [row], roles)

    assert found == ([row] if shown else [])


@pytest.mark.parametrize(
    ("overwrites", "shown"),
    [
        pytest.param([], True, id="no-overwrite"),
        pytest.param([values.denied(GUILD)], False, id="closed-to-everyone"),
        pytest.param([values.denied(11)], False, id="closed-to-a-role-they-may-have"),
        pytest.param([values.denied(11), values.allowed(12)], False, id="open-only-to-a-role-they-may-lack"),
        pytest.param([values.denied(GUILD), values.allowed(11)], False, id="a-role-might-open-it"),
        pytest.param([values.denied(GUILD), values.allowed(USER, 1)], True, id="open-to-the-member-by-name"),
        pytest.param([values.denied(11), values.allowed(USER, 1)], True, id="open-to-the-member-whatever-their-roles"),
        pytest.param([values.denied(OTHER, 1)], True, id="closed-to-somebody-else"),
    ],
)
def test_only_what_is_certain_is_shown_when_roles_are_unknown(
    overwrites: list[model.Overwrite],
    shown: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """It fails closed: what depends on a role is hidden."""
    row = channel(*overwrites)

    found = permissions.visible_channels(values.membership(), [row], None)

    assert found == ([row] if shown else [])


def test_a_category_is_shown_when_one_of_its_channels_is() -> None:
    """Also one that is closed itself; the given order stays."""
    closed = values.channel(1, kind=CATEGORY, overwrites=(values.denied(GUILD),))
    child = values.channel(2, parent_id=1)
    empty = values.channel(3, kind=CATEGORY, overwrites=(values.denied(GUILD),))
    hidden = values.channel(4, parent_id=3, overwrites=(values.denied(GUILD),))

    found = permissions.visible_channels(values.membership(), [closed, hidden, empty, child], ())

    assert found == [closed, child]


@pytest.mark.parametrize(
    ("member", "overwrites", "shown"),
    [
        pytest.param({}, [], False, id="member"),
        pytest.param({"permissions": VIEW | MANAGE_CHANNELS}, [], True, id="manager"),
        pytest.param({"permissions": VIEW | MANAGE_CHANNELS}, [values.denied(GUILD)], False, id="manager-shut-out"),
        pytest.param({"permissions": MANAGE_CHANNELS}, [], False, id="manager-without-sight"),
        pytest.param({"permissions": 0, "owner": True}, [values.denied(GUILD)], True, id="owner"),
        pytest.param({"permissions": ADMINISTRATOR}, [values.denied(GUILD)], True, id="administrator"),
    ],
)
@pytest.mark.parametrize("hidden_child", [False, True], ids=["empty", "with-a-hidden-channel"])
def test_a_category_without_a_visible_channel_is_shown_to_members_who_manage_channels_there(
    member: dict[str, object],
    overwrites: list[model.Overwrite],
    shown: bool,  # noqa: FBT001 -- a parameter
    hidden_child: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Discord's clients hide it from others, who would learn from its name what they may not see (decision 31)."""
    category = values.channel(1, kind=CATEGORY, overwrites=overwrites)
    child = values.channel(2, parent_id=1, overwrites=(values.denied(GUILD),))

    found = permissions.visible_channels(values.membership(**member), [category, *[child] * hidden_child], ())

    assert (category in found) is shown


def test_a_parent_stays_hidden_when_it_is_no_category() -> None:
    """Only categories show for their children."""
    forum = values.channel(1, kind=15, overwrites=(values.denied(GUILD),))
    child = values.channel(2, parent_id=1)

    assert permissions.visible_channels(values.membership(), [forum, child], ()) == [child]


def test_a_child_is_not_hidden_when_its_category_is() -> None:
    """There is no inheritance at run time: syncing a channel copies overwrites, nothing else."""
    category = values.channel(1, kind=CATEGORY, overwrites=(values.denied(GUILD), values.denied(11)))
    child = values.channel(2, parent_id=1)

    assert child in permissions.visible_channels(values.membership(), [category, child], (11,))


@pytest.mark.parametrize(
    "member", [{}, {"owner": True}, {"permissions": ADMINISTRATOR}], ids=["member", "owner", "admin"]
)
def test_a_channel_of_another_guild_is_not_shown_when_it_is_mixed_in(member: dict[str, object]) -> None:
    """A member of one guild has no say in another, and neither has its owner."""
    foreign = values.channel(1, GUILD + 1)
    category = values.channel(2, GUILD + 1, kind=CATEGORY)
    own = values.channel(3, parent_id=2)

    assert permissions.visible_channels(values.membership(**member), [foreign, category, own], ()) == [own]


@pytest.mark.parametrize(
    ("kind", "overwrites", "parent", "shown"),
    [
        pytest.param(11, [], 1, True, id="public-thread-of-an-open-channel"),
        pytest.param(10, [], 1, True, id="announcement-thread-of-an-open-channel"),
        pytest.param(11, [values.denied(GUILD)], 1, False, id="public-thread-of-a-closed-channel"),
        pytest.param(11, [values.denied(11), values.allowed(12)], 1, False, id="roles-count-for-the-parent"),
        pytest.param(11, [], 9, False, id="parent-not-known"),
        pytest.param(11, [], None, False, id="no-parent"),
        pytest.param(12, [], 1, False, id="private-thread-of-an-open-channel"),
    ],
)
def test_a_thread_is_shown_when_its_parent_is(
    kind: int,
    overwrites: list[model.Overwrite],
    parent: int | None,
    shown: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Section Inherited Permissions. A private one is not: neither its members nor MANAGE_THREADS are known."""
    thread = values.channel(2, kind=kind, parent_id=parent)

    found = permissions.visible_channels(values.membership(), [channel(*overwrites), thread], (11,))

    assert (thread in found) is shown


@pytest.mark.parametrize(
    ("member", "overwrites", "needed"),
    [
        pytest.param({}, [], False, id="no-overwrite"),
        pytest.param({}, [values.denied(GUILD)], False, id="everyone-only"),
        pytest.param({}, [values.denied(11)], True, id="a-role-is-shut-out"),
        pytest.param({}, [values.denied(GUILD), values.allowed(11)], True, id="a-role-is-let-in"),
        pytest.param({}, [values.allowed(11)], False, id="a-role-is-let-in-where-all-are"),
        pytest.param({}, [values.denied(GUILD), values.denied(11)], False, id="a-role-is-shut-out-where-all-are"),
        pytest.param({}, [values.denied(11), values.allowed(USER, 1)], False, id="the-member-overwrite-decides"),
        pytest.param({}, [model.Overwrite(11, 0, 1 << 11, 1 << 12)], False, id="other-permissions"),
        pytest.param({}, [model.Overwrite(11, 0, VIEW, VIEW)], False, id="allowed-and-denied-at-once"),
        pytest.param({"owner": True}, [values.denied(11)], False, id="owner"),
        pytest.param({"permissions": ADMINISTRATOR}, [values.denied(11)], False, id="administrator"),
    ],
)
def test_roles_are_worth_a_call_when_they_can_change_what_is_shown(
    member: dict[str, object],
    overwrites: list[model.Overwrite],
    needed: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """And only then."""
    assert permissions.needs_roles(values.membership(**member), [channel(*overwrites)]) is needed


def test_roles_are_not_worth_a_call_when_they_decide_a_category_that_shows_anyway() -> None:
    """An open channel makes its category visible, whatever the category's own overwrites."""
    category = values.channel(1, kind=CATEGORY, overwrites=(values.denied(GUILD), values.allowed(11)))
    child = values.channel(2, parent_id=1)

    assert not permissions.needs_roles(values.membership(), [category, child])
    assert not permissions.needs_roles(values.membership(), [category])
    assert permissions.needs_roles(values.membership(permissions=VIEW | MANAGE_CHANNELS), [category])
