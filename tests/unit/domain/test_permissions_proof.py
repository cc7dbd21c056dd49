"""
What is shown, compared with a transcription of Discord's documentation on random guilds (documented.py).

The product gets what Discord provides: the guild list's permissions and ownership, the channels with their
overwrites, and the member's role ids, or nothing of these.
"""

import itertools
import random
from collections.abc import Iterator

from indexing.domain import model, permissions
from tests import values
from tests.unit.domain import documented

GUILDS = 10_000
SEED = 20_261_123
GUILD, USER, OTHER = values.GUILD, values.USER, values.USER + 1
ROLES = (11, 12, USER)
"""Role ids; ids are unique only within their kind, so that one may be the user's."""
VIEW = documented.VIEW_CHANNEL
KINDS = (0, 0, 0, 2, 4, 5, 13, 15, 16, 99)
TARGETS = [
    *((key, kind) for key in ROLES for kind in (0, 0, 0, 1)),
    *((GUILD, 0), (GUILD, 0), (GUILD, 1), (USER, 1), (USER, 1), (OTHER, 1), (999, 0)),
]
"""What overwrites name: roles, one of them dead, members, and the same ids of the other kind."""


def bits(rng: random.Random) -> int:
    """Return a permission set of up to 53 bits in which VIEW_CHANNEL is as likely as not."""
    rest = rng.getrandbits(53) & rng.getrandbits(53) & ~(VIEW | documented.ADMINISTRATOR)
    return rest | (VIEW if rng.random() < 0.5 else 0)


def overwrites(rng: random.Random) -> tuple[documented.Overwrite, ...]:
    """Return overwrites, one for each target; a bit is allowed or denied, never both."""
    targets = dict.fromkeys(rng.choices(TARGETS, k=rng.randrange(6)))
    made = []
    for key, kind in targets:
        allow = bits(rng) if rng.random() < 0.6 else 0
        allow |= documented.ADMINISTRATOR if rng.random() < 0.05 else 0
        made.append(documented.Overwrite(key, kind, allow, bits(rng) & ~allow))
    return tuple(made)


def channels(rng: random.Random) -> tuple[documented.Channel, ...]:
    """Return up to seven channels; parents are categories or not, there or not."""
    made: list[documented.Channel] = []
    for number in range(1, rng.randrange(2, 8)):
        parent = rng.choice([None, 1, 1, 2, 77])
        made.append(documented.Channel(number, rng.choice(KINDS), parent, overwrites(rng)))
    stems = [row.id for row in made if row.type in {0, 5, 15}]
    if stems and rng.random() < 0.3:
        made.append(documented.Channel(50, rng.choice([10, 11]), rng.choice(stems), ()))
    return tuple(made)


def guild(rng: random.Random) -> documented.Guild:
    """Return a guild whose roles may do this and that; sometimes one of them administers, or the user owns it."""
    roles = {GUILD: bits(rng)}
    for role in ROLES:
        roles[role] = (bits(rng) if rng.random() < 0.3 else 0) | (8 if rng.random() < 0.04 else 0)
    owner = USER if rng.random() < 0.05 else OTHER
    return documented.Guild(GUILD, owner, roles, channels(rng))


def as_listed(member: documented.Member, of: documented.Guild) -> model.Membership:
    """Return the membership as the guild list gives it: total permissions without overwrites, and ownership."""
    permissions = documented.compute_base_permissions(member, of)
    return values.membership(owner=of.owner_id == member.user_id, permissions=permissions)


def as_stored(of: documented.Guild) -> list[model.Channel]:
    """Return the channels as they are stored."""
    return [
        values.channel(
            row.id,
            kind=row.type,
            parent_id=row.parent_id,
            overwrites=model.Overwrites.of(
                model.Overwrite(one.id, one.type, one.allow, one.deny) for one in row.overwrites
            ),
        )
        for row in of.channels
    ]


def ids(rows: list[model.Channel]) -> set[int]:
    """Return their ids."""
    return {row.channel_id for row in rows}


def cases(count: int, seed: int = SEED) -> Iterator[tuple[random.Random, documented.Guild, documented.Member]]:
    """Yield random guilds, each with a member who has some of its roles, and the random generator."""
    rng = random.Random(seed)
    for _ in range(count):
        made = guild(rng)
        roles = frozenset(role for role in ROLES if rng.random() < 0.5)
        yield rng, made, documented.Member(USER, roles, timed_out=rng.random() < 0.1)


def test_exactly_what_the_documentation_shows_is_shown_on_ten_thousand_guilds() -> None:
    """Channel by channel, no more and no less, when the roles are known."""
    closed = opened = 0
    for _, made, member in cases(GUILDS):
        found = ids(permissions.visible_channels(as_listed(member, made), as_stored(made), member.roles))

        assert found == documented.shown(member, made), (made, member)

        opened += len(found)
        closed += len(made.channels) - len(found)
    assert min(opened, closed) > GUILDS  # neither "all" nor "nothing" would pass


def test_what_is_shown_with_unknown_roles_is_shown_with_any_on_random_guilds() -> None:
    """It fails closed, and a call for the roles is made exactly where some set of them changes what is shown."""
    asked = saved = 0
    named = (*ROLES, 999)
    every_set = [frozenset(some) for size in range(5) for some in itertools.combinations(named, size)]
    for _, made, member in cases(GUILDS, SEED + 1):
        listed, stored = as_listed(member, made), as_stored(made)

        unsure = ids(permissions.visible_channels(listed, stored, None))
        with_roles = [ids(permissions.visible_channels(listed, stored, roles)) for roles in every_set]

        assert all(unsure <= found for found in with_roles), (made, member)
        differs = any(found != with_roles[0] for found in with_roles)
        assert permissions.needs_roles(listed, stored) is differs, (made, member)
        asked += differs
        saved += not differs
    assert min(asked, saved) > GUILDS // 10


def test_a_private_thread_is_visible_to_owner_and_administrators_only() -> None:
    """Discord shows it to its members and to MANAGE_THREADS as well; neither is known here."""
    for rng, made, member in cases(500, SEED + 2):
        stem = documented.Channel(60, 0, None, overwrites(rng))
        thread = documented.Channel(61, documented.PRIVATE_THREAD, 60, ())
        with_thread = documented.Guild(made.id, made.owner_id, made.roles, (*made.channels, stem, thread))
        listed = as_listed(member, with_thread)

        found = ids(permissions.visible_channels(listed, as_stored(with_thread), member.roles))

        administers = documented.compute_base_permissions(member, with_thread) & documented.ADMINISTRATOR
        assert (61 in found) is bool(made.owner_id == member.user_id or administers)
        assert found <= documented.shown(member, with_thread)
