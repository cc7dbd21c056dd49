"""Channel views: computed once for users who see the same, and never more or less than each may see."""

import dataclasses
import random

import pytest

from indexer_service.api import convert
from indexing.domain import channel_views, model, permissions
from tests import values
from tests.unit.domain import test_permissions_proof as proof

GUILD, USER = values.GUILD, values.USER
USERS = (USER, USER + 1, USER + 2, proof.ROLES[0])
"""Users; one has the id of a role, because ids are unique only within their kind."""
ROLES = (*proof.ROLES, 999, 1_000, GUILD)
GUILDS = 300
MEMBERS = 40


def views_of(channels: list[model.Channel], **changes: object) -> channel_views.ChannelViews:
    """Return the views of a guild with these channels, encoded to their ids."""
    guild = values.guild(**changes)
    return channel_views.ChannelViews(model.IndexedGuild(guild, 7, tuple(channels)), lambda row: row.channel_id)


def seen(views: channel_views.ChannelViews, member: model.Membership, roles: frozenset[int] | None) -> list[int]:
    """Return the ids of the channels of a view."""
    return [views.channels[place].channel_id for place in views.view(member, roles)]


def expected(channels: list[model.Channel], member: model.Membership, roles: frozenset[int] | None) -> list[int]:
    """Return the ids of the channels that a member may see, computed for them alone."""
    return [row.channel_id for row in permissions.visible_channels(member, channels, roles)]


def random_member(dice: random.Random) -> tuple[model.Membership, frozenset[int] | None]:
    """Return a member with any rights, and their roles, which are sometimes unknown."""
    rights = proof.bits(dice) | (permissions.ADMINISTRATOR if dice.random() < 0.05 else 0)
    member = values.membership(user_id=dice.choice(USERS), owner=dice.random() < 0.05, permissions=rights)
    known = frozenset(role for role in ROLES if dice.random() < 0.4)
    return member, None if dice.random() < 0.2 else known


def many(count: int, seed: int) -> list[model.Overwrite]:
    """Return overwrites for many other roles and members."""
    dice = random.Random(seed)
    made = (values.denied, values.allowed)
    return [dice.choice(made)(10_000 + number, kind=number % 2) for number in range(count)]


@pytest.mark.parametrize("others", [0, 2 * channel_views.MOST_NAMED + 2], ids=["few-named", "many-named"])
def test_a_view_has_what_its_member_may_see_on_random_guilds(others: int) -> None:
    """Whichever members asked before, and however many ids the overwrites have."""
    shared = hidden = 0
    for number, (dice, made, _) in enumerate(proof.cases(GUILDS if not others else 30, seed=number_of(others))):
        channels = proof.as_stored(made)
        if others:
            channels.append(values.channel(900, overwrites=many(others, number)))
        views = views_of(channels)

        for _ in range(MEMBERS):
            member, roles = random_member(dice)
            assert sorted(seen(views, member, roles)) == sorted(expected(channels, member, roles)), (
                made,
                member,
                roles,
            )
            assert views.look(member, roles).rows == seen(views, member, roles), (made, member, roles)
            assert views.needs_roles(member) is permissions.needs_roles(member, channels), (made, member)
            hidden += len(channels) - len(views.view(member, roles))

        shared += MEMBERS - len(views._views)
    # Neither "all" nor "one view for each" would pass.
    assert hidden > GUILDS
    assert others or shared > GUILDS * MEMBERS // 4


def number_of(others: int) -> int:
    """Return a seed."""
    return proof.SEED + 10 + others


HIDDEN_FROM_ROLE = values.channel(1, overwrites=[values.denied(11)])
HIDDEN_FROM_USER = values.channel(2, overwrites=[values.denied(USER, kind=1)])
OPEN = values.channel(3)


def test_users_share_a_view_when_they_agree_in_everything_that_overwrites_use() -> None:
    """Other roles, other rights and the user's id do not matter."""
    views = views_of([HIDDEN_FROM_ROLE, HIDDEN_FROM_USER, OPEN])
    first = values.membership(user_id=8, permissions=values.VIEW)
    second = values.membership(user_id=9, permissions=values.VIEW | 1 << 11)

    assert views.view(first, {11, 12}) is views.view(second, {11, 77})
    assert views.view(first, None) is views.view(second, None)
    assert views.view(first, {12}) is views.view(second, set())


def test_a_view_has_the_sizes_of_the_channels_that_it_shows() -> None:
    """A page is bounded by them: 200 bytes and the texts of each."""
    long, short = values.channel(1, name="n" * 30, overwrites=[values.denied(11)]), values.channel(2, name="n" * 7)
    views = views_of([long, short])

    assert views.look(values.membership(user_id=8), {11}).sizes == [207]
    assert views.look(values.membership(user_id=8), {12}).sizes == [230, 207]


@pytest.mark.parametrize(
    ("other", "roles", "places"),
    [
        (values.membership(user_id=8, permissions=0), {11}, []),
        (values.membership(user_id=8), {12}, [0, 1, 2]),
        (values.membership(user_id=8), None, [1, 2]),
        (values.membership(user_id=USER), {11}, [2]),
        (values.membership(user_id=8, owner=True, permissions=0), {11}, [0, 1, 2]),
        (values.membership(user_id=8, permissions=values.ADMINISTRATOR), {11}, [0, 1, 2]),
    ],
    ids=["without-view", "without-the-role", "unknown-roles", "named-user", "owner", "administrator"],
)
def test_users_have_different_views_when_a_relevant_fact_differs(
    other: model.Membership, roles: set[int] | None, places: list[int]
) -> None:
    """VIEW_CHANNEL, a role or user id that an overwrite uses, or a right that bypasses overwrites."""
    views = views_of([HIDDEN_FROM_ROLE, HIDDEN_FROM_USER, OPEN])
    first = views.view(values.membership(user_id=9), {11})

    assert first == [1, 2]
    assert views.view(other, roles) == places


def test_unknown_roles_differ_from_none_when_a_role_is_needed() -> None:
    """A member without roles sees what is hidden from a role; one whose roles are unknown may have it."""
    views = views_of([HIDDEN_FROM_ROLE])

    assert (views.view(values.membership(), ()), views.view(values.membership(), None)) == ([0], [])
    assert views.needs_roles(values.membership())
    assert not views.needs_roles(values.membership(owner=True))


def test_views_are_bounded_when_more_groups_ask_than_are_kept() -> None:
    """Dropped views are computed again on request, correctly."""
    roles = range(1, 300)
    channels = [values.channel(role, overwrites=[values.denied(role)]) for role in roles]
    views = views_of(channels)

    for _ in range(2):
        for role in roles:
            assert seen(views, values.membership(), frozenset({role})) == [row for row in roles if row != role]
    for user_id in range(300):
        views.needs_roles(values.membership(user_id=user_id))

    assert len(views._views) <= channel_views.MOST_VIEWS
    assert len(views._needs_roles) <= channel_views.MOST_VIEWS


def test_channels_are_encoded_once_when_a_version_is_kept() -> None:
    """In the clients' order; views are indexes into it."""
    calls: list[int] = []
    rows = [values.channel(5), values.channel(4), values.channel(6)]
    indexed = model.IndexedGuild(values.guild(), 7, tuple(rows))

    def encode(row: model.Channel) -> str:
        calls.append(row.channel_id)
        return str(row.channel_id)

    views = channel_views.ChannelViews(indexed, encode)

    for user_id in range(3):
        views.view(values.membership(user_id=user_id), ())

    assert (calls, views.rows, views.version) == ([4, 5, 6], ["4", "5", "6"], 7)


def test_the_size_of_a_row_is_not_below_what_it_takes_when_all_its_fields_are_long() -> None:
    """So that a page of rows does not grow beyond its bound."""
    longest = values.channel(
        (1 << 63) - 1,
        (1 << 63) - 1,
        kind=(1 << 31) - 1,
        name="🎉" * 100,
        topic="🎉" * 4_096,
        position=-(1 << 31),
        parent_id=(1 << 63) - 1,
        nsfw=True,
        last_message_id=(1 << 63) - 1,
    )
    indexed = model.IndexedGuild(values.guild(), 7, (longest, values.channel(1)))

    views = channel_views.ChannelViews(indexed, convert.encoded_channel)

    assert [len(row) <= size for row, size in zip(views.rows, views.sizes, strict=True)] == [True, True]


def test_the_times_are_updated_when_a_fetch_changed_nothing() -> None:
    """Version, channels and views stay."""
    views = views_of([OPEN], fetched_at=1.0)
    view, before = views.view(values.membership(), ()), views.guild

    views.note_fetch(model.GuildVersion(7, 5.0, 9.0))

    schedule = dataclasses.replace(before.schedule, next_at=9.0)
    assert views.guild == dataclasses.replace(before, fetched_at=5.0, schedule=schedule)
    assert views.view(values.membership(), ()) is view


def test_the_size_of_a_guild_grows_with_its_channels_and_overwrites_when_they_are_counted() -> None:
    """Equal overwrites that are one object count once."""
    overwrites = model.Overwrites.of(values.denied(role) for role in range(100))
    shared = [values.channel(number, overwrites=overwrites) for number in range(10)]

    def size(rows: list[model.Channel]) -> int:
        return channel_views.size_of(model.IndexedGuild(values.guild(), 7, tuple(rows)))

    nothing = size([])
    assert nothing > 0
    assert size(shared) - nothing == 10 * (size([OPEN]) - nothing) + 800
    assert views_of(shared).bytes == size(shared)


def test_packed_views_are_bounded_when_more_groups_ask_than_are_kept() -> None:
    """Dropped ones are packed again on request."""
    roles = range(1, 300)
    channels = [values.channel(role, overwrites=[values.denied(role)]) for role in roles]
    indexed = model.IndexedGuild(values.guild(), 7, tuple(channels))
    views = channel_views.ChannelViews(indexed, lambda row: str(row.channel_id).encode())

    packed = [views.packed(values.membership(), frozenset({role})) for role in roles]

    assert len(views._packed) <= channel_views.MOST_VIEWS
    assert [views.packed(values.membership(), frozenset({role})) for role in roles] == packed
    assert len(set(packed)) == len(roles)


@pytest.mark.parametrize(("named", "shared"), [(2_000, True), (2_001, False)])
def test_views_are_shared_while_overwrites_name_at_most_two_thousand_ids(named: int, shared: bool) -> None:  # noqa: FBT001 -- a parameter
    """With more, members with different other roles have views of their own."""
    views = views_of([values.channel(1, overwrites=[values.denied(10_000 + number) for number in range(named)])])

    found = [views.view(values.membership(), frozenset({role})) for role in (5, 6)]

    assert (found[0] is found[1]) is shared
