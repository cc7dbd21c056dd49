"""
Which channels a user may see.

The table is made by hand from Discord's documentation (topics/permissions.mdx, read 2026-08-06; its sections are named
in the ids); the properties compare with a transcription of the algorithm that is printed there.
"""

import itertools
from collections.abc import Collection, Sequence

import hypothesis
import pytest
from hypothesis import strategies

from indexing import model, visibility
from tests import values

GUILD, USER, OTHER = values.GUILD, values.USER, values.USER + 1
VIEW, ADMINISTRATOR = 1 << 10, 1 << 3
ROLES = (11, 12, USER)
"""Roles that overwrites may name; ids are unique only within their kind, so that one may be the user's."""
CATEGORY = 4


def channel(*overwrites: model.Overwrite) -> model.Channel:
    """Return a channel with these overwrites."""
    return values.channel(1, overwrites=overwrites)


@pytest.mark.parametrize(
    ("member", "roles", "overwrites", "shown"),
    [
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
        pytest.param({}, (), [model.Overwrite(GUILD, 0, 0, 1 << 11)], True, id="other-permissions-do-not-matter"),
        pytest.param({"permissions": ~VIEW & ((1 << 63) - 1) & ~8}, (), [], False, id="all-but-view-shows-nothing"),
        pytest.param({}, (), [values.denied(GUILD, 7)], True, id="unknown-kind-of-overwrite"),
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

    found = visibility.visible(values.membership(**member), [row], roles)

    assert found == ([row] if shown else [])


@pytest.mark.parametrize(
    ("overwrites", "shown"),
    [
        pytest.param([], True, id="no-overwrite"),
        pytest.param([values.denied(GUILD)], False, id="closed-to-everyone"),
        pytest.param([values.denied(11)], False, id="closed-to-a-role-he-may-have"),
        pytest.param([values.denied(11), values.allowed(12)], False, id="open-only-to-a-role-he-may-lack"),
        pytest.param([values.denied(GUILD), values.allowed(11)], False, id="a-role-might-open-it"),
        pytest.param([values.denied(GUILD), values.allowed(USER, 1)], True, id="open-to-him-by-name"),
        pytest.param([values.denied(11), values.allowed(USER, 1)], True, id="open-to-him-whatever-his-roles"),
        pytest.param([values.denied(OTHER, 1)], True, id="closed-to-somebody-else"),
    ],
)
def test_only_what_is_certain_is_shown_when_roles_are_unknown(
    overwrites: list[model.Overwrite],
    shown: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """It fails closed: what depends on a role is hidden."""
    row = channel(*overwrites)

    found = visibility.visible(values.membership(), [row], None)

    assert found == ([row] if shown else [])


def test_a_category_is_shown_when_one_of_its_channels_is() -> None:
    """Also one that is closed itself; the given order stays."""
    closed = values.channel(1, kind=CATEGORY, overwrites=(values.denied(GUILD),))
    child = values.channel(2, parent_id=1)
    empty = values.channel(3, kind=CATEGORY, overwrites=(values.denied(GUILD),))
    hidden = values.channel(4, parent_id=3, overwrites=(values.denied(GUILD),))

    found = visibility.visible(values.membership(), [closed, hidden, empty, child], ())

    assert found == [closed, child]


def test_a_parent_stays_hidden_when_it_is_no_category() -> None:
    """Only categories show for their children."""
    forum = values.channel(1, kind=15, overwrites=(values.denied(GUILD),))
    child = values.channel(2, parent_id=1)

    assert visibility.visible(values.membership(), [forum, child], ()) == [child]


def test_a_child_is_not_hidden_when_its_category_is() -> None:
    """There is no inheritance at run time: syncing a channel copies overwrites, nothing else."""
    category = values.channel(1, kind=CATEGORY, overwrites=(values.denied(GUILD), values.denied(11)))
    child = values.channel(2, parent_id=1)

    assert child in visibility.visible(values.membership(), [category, child], (11,))


def test_a_channel_of_another_guild_is_not_shown_when_it_is_mixed_in() -> None:
    """A member of one guild has no say in another."""
    foreign = values.channel(1, GUILD + 1)

    assert visibility.visible(values.membership(), [foreign], ()) == []


@pytest.mark.parametrize(
    ("member", "overwrites", "needed"),
    [
        pytest.param({}, [], False, id="no-overwrite"),
        pytest.param({}, [values.denied(GUILD)], False, id="everyone-only"),
        pytest.param({}, [values.denied(11)], True, id="a-role-is-shut-out"),
        pytest.param({}, [values.denied(GUILD), values.allowed(11)], True, id="a-role-is-let-in"),
        pytest.param({}, [values.allowed(11)], False, id="a-role-is-let-in-where-all-are"),
        pytest.param({}, [values.denied(GUILD), values.denied(11)], False, id="a-role-is-shut-out-where-all-are"),
        pytest.param({}, [values.denied(11), values.allowed(USER, 1)], False, id="his-name-decides"),
        pytest.param({}, [model.Overwrite(11, 0, 1 << 11, 1 << 12)], False, id="other-permissions"),
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
    assert visibility.needs_roles(values.membership(**member), [channel(*overwrites)]) is needed


def documented(permissions: int, roles: Collection[int], overwrites: Sequence[model.Overwrite]) -> bool:
    """Return whether VIEW_CHANNEL is left, by the pseudocode of the section Permission Overwrites."""
    if permissions & ADMINISTRATOR:
        return True
    by_role = {overwrite.target_id: overwrite for overwrite in overwrites if overwrite.kind == 0}
    by_member = {overwrite.target_id: overwrite for overwrite in overwrites if overwrite.kind == 1}
    everyone = by_role.get(GUILD)
    if everyone is not None:
        permissions &= ~everyone.deny
        permissions |= everyone.allow
    allow = deny = 0
    for role in roles:
        if role in by_role:
            allow |= by_role[role].allow
            deny |= by_role[role].deny
    permissions &= ~deny
    permissions |= allow
    if USER in by_member:
        permissions &= ~by_member[USER].deny
        permissions |= by_member[USER].allow
    return bool(permissions & VIEW)


def shown_by_documentation(
    member: model.Membership, roles: Collection[int], channels: Sequence[model.Channel]
) -> set[int]:
    """Return the ids that the documentation shows, categories with their children."""
    seen = {c.channel_id for c in channels if member.owner or documented(member.permissions, roles, c.overwrites)}
    return seen | {
        c.channel_id
        for c in channels
        if c.kind == CATEGORY and any(d.parent_id == c.channel_id and d.channel_id in seen for d in channels)
    }


MASKS = strategies.sampled_from([0, VIEW, 1 << 11, VIEW | 1 << 11, ADMINISTRATOR])
TARGETS = strategies.sampled_from([(GUILD, 0), (USER, 1), (OTHER, 1), (GUILD, 1)]) | strategies.tuples(
    strategies.sampled_from(ROLES), strategies.sampled_from([0, 1])
)


@strategies.composite
def overwrite_lists(draw: strategies.DrawFn) -> tuple[model.Overwrite, ...]:
    """Draw overwrites, one for each target; a bit is allowed or denied, never both."""
    targets = draw(strategies.lists(TARGETS, max_size=6, unique=True))
    masks = [(draw(MASKS), draw(MASKS)) for _ in targets]
    pairs = zip(targets, masks, strict=True)
    return tuple(model.Overwrite(key, kind, allow, deny & ~allow) for (key, kind), (allow, deny) in pairs)


@strategies.composite
def guilds(draw: strategies.DrawFn) -> list[model.Channel]:
    """Draw the channels of a guild: the first may be a category, the others may stand in it."""
    kinds = draw(strategies.lists(strategies.sampled_from([0, 2, CATEGORY]), min_size=1, max_size=4))
    return [
        values.channel(
            number,
            kind=kind,
            parent_id=draw(strategies.sampled_from([None, 1])) if number > 1 else None,
            overwrites=draw(overwrite_lists()),
        )
        for number, kind in enumerate(kinds, start=1)
    ]


MEMBERS = strategies.builds(
    lambda owner, permissions: values.membership(owner=owner, permissions=permissions),
    strategies.sampled_from([False, False, False, True]),
    strategies.sampled_from([0, VIEW, VIEW | 1 << 11, 1 << 11, ADMINISTRATOR]),
)
ROLE_SETS = [frozenset(chosen) for size in range(4) for chosen in itertools.combinations(ROLES, size)]


@hypothesis.given(MEMBERS, guilds(), strategies.sampled_from(ROLE_SETS))
def test_exactly_that_is_shown_when_roles_are_known(
    member: model.Membership, channels: list[model.Channel], roles: frozenset[int]
) -> None:
    """What the documented algorithm shows, no more and no less."""
    found = {row.channel_id for row in visibility.visible(member, channels, roles)}

    assert found == shown_by_documentation(member, roles, channels)


@hypothesis.given(MEMBERS, guilds())
def test_never_more_is_shown_when_roles_are_unknown(member: model.Membership, channels: list[model.Channel]) -> None:
    """Whatever roles the user turns out to have, he may see all that was shown to him before."""
    found = {row.channel_id for row in visibility.visible(member, channels, None)}

    for roles in ROLE_SETS:
        assert found <= shown_by_documentation(member, roles, channels)


@hypothesis.given(MEMBERS, guilds())
def test_no_call_is_saved_wrongly_when_roles_seem_not_to_matter(
    member: model.Membership, channels: list[model.Channel]
) -> None:
    """Where roles are not asked for, every set of roles shows the same; where they are, some set shows more."""
    without = {row.channel_id for row in visibility.visible(member, channels, None)}
    by_roles = [shown_by_documentation(member, roles, channels) for roles in ROLE_SETS]

    if visibility.needs_roles(member, channels):
        assert any(seen != without for seen in by_roles) or any(c.kind == CATEGORY for c in channels)
    else:
        assert all(seen == without for seen in by_roles)
