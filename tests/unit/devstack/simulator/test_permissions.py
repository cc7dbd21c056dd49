"""Discord's permission algorithm, by hand-made cases."""

import pytest

from devstack.simulator import permissions
from devstack.simulator.permissions import MEMBER, ROLE, VIEW_CHANNEL

GUILD, USER, STAFF, MUTED, OTHER = 1, 10, 20, 21, 99
SEEN, HIDDEN = True, False


def role(role_id: int, allow: int = 0, deny: int = 0) -> permissions.Overwrite:
    """Return an overwrite for a role."""
    return permissions.Overwrite(role_id, ROLE, allow, deny)


def member(user_id: int, allow: int = 0, deny: int = 0) -> permissions.Overwrite:
    """Return an overwrite for a member."""
    return permissions.Overwrite(user_id, MEMBER, allow, deny)


CASES = {
    "no overwrite: the guild decides": ((), {}, SEEN),
    "everyone denied": ((), [role(GUILD, deny=VIEW_CHANNEL)], HIDDEN),
    "everyone denied, role allowed": ([STAFF], [role(GUILD, deny=VIEW_CHANNEL), role(STAFF, allow=VIEW_CHANNEL)], SEEN),
    "role allowed that the member lacks": (
        (),
        [role(GUILD, deny=VIEW_CHANNEL), role(STAFF, allow=VIEW_CHANNEL)],
        HIDDEN,
    ),
    "role denied": ([MUTED], [role(MUTED, deny=VIEW_CHANNEL)], HIDDEN),
    "one role denies, one allows: allow wins": (
        [STAFF, MUTED],
        [role(MUTED, deny=VIEW_CHANNEL), role(STAFF, allow=VIEW_CHANNEL)],
        SEEN,
    ),
    "the same in the other order": (
        [STAFF, MUTED],
        [role(STAFF, allow=VIEW_CHANNEL), role(MUTED, deny=VIEW_CHANNEL)],
        SEEN,
    ),
    "member denied against an allowed role": (
        [STAFF],
        [member(USER, deny=VIEW_CHANNEL), role(STAFF, allow=VIEW_CHANNEL)],
        HIDDEN,
    ),
    "member allowed against everyone and role": (
        [MUTED],
        [member(USER, allow=VIEW_CHANNEL), role(MUTED, deny=VIEW_CHANNEL), role(GUILD, deny=VIEW_CHANNEL)],
        SEEN,
    ),
    "an overwrite both denies and allows: allow wins": ((), [role(GUILD, VIEW_CHANNEL, VIEW_CHANNEL)], SEEN),
    "another member denied": ((), [member(OTHER, deny=VIEW_CHANNEL)], SEEN),
    "a member overwrite with a role's id": ([STAFF], [member(STAFF, deny=VIEW_CHANNEL)], SEEN),
    "a role overwrite with the user's id": ((), [role(USER, deny=VIEW_CHANNEL)], SEEN),
}


@pytest.mark.parametrize(("roles", "overwrites", "seen"), CASES.values(), ids=CASES.keys())
def test_visibility_of_a_channel_follows_its_overwrites(
    roles: list[int], overwrites: list[permissions.Overwrite], *, seen: bool
) -> None:
    """First @everyone, then all roles together, then the member; each denies before it allows."""
    viewer = permissions.Viewer(USER, GUILD, frozenset(roles))

    granted = permissions.channel_permissions(viewer, VIEW_CHANNEL, overwrites)

    assert bool(granted) == seen


@pytest.mark.parametrize("owner", [True, False], ids=["owner", "administrator"])
def test_owners_and_administrators_see_everything(*, owner: bool) -> None:
    """Owners and administrators see a channel regardless of its overwrites."""
    viewer = permissions.Viewer(USER, GUILD, frozenset([STAFF]), owner=owner)
    granted = permissions.guild_permissions(viewer, {GUILD: 0, STAFF: 0 if owner else permissions.ADMINISTRATOR})
    denials = [role(GUILD, deny=VIEW_CHANNEL), member(USER, deny=VIEW_CHANNEL)]

    assert permissions.channel_permissions(viewer, granted, denials) == permissions.ALL


def test_permissions_of_several_roles_add_up() -> None:
    """Guild permissions are the union over @everyone and all roles; unknown roles add nothing."""
    viewer = permissions.Viewer(USER, GUILD, frozenset([STAFF, OTHER]))

    granted = permissions.guild_permissions(viewer, {GUILD: 1, STAFF: 4, MUTED: 2})

    assert granted == 5


def test_no_permission_is_left_when_view_is_denied() -> None:
    """Without VIEW_CHANNEL no other permission in the channel is granted."""
    viewer = permissions.Viewer(USER, GUILD)

    granted = permissions.channel_permissions(
        viewer, permissions.ALL & ~permissions.ADMINISTRATOR, [role(GUILD, 0, VIEW_CHANNEL)]
    )

    assert granted == 0


def test_a_category_is_visible_when_a_child_is() -> None:
    """The category of a visible channel is visible; no others are added."""
    parents = {1: None, 2: None, 3: 1, 4: 2}

    visible = permissions.with_parent_categories({3}, parents)

    assert visible == {1, 3}
