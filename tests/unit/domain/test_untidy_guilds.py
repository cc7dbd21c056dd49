"""
Random guilds with untidy answers: never more is shown than by the strictest reading of them.

The answers are JSON, as Discord would send it: rows, overwrites and roles are missing, doubled, of unknown types, of
other guilds, redacted, or wrong in a field. The reference below reads each answer in every way in which it can be read,
without a line of the product, and shows a channel only if all ways show it.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import random
from collections.abc import Iterator
from typing import Any

from indexing.discord import payloads
from indexing.domain import model, permissions

GUILDS = int(os.environ.get("UNTIDY_GUILDS", "2000"))  # noqa: TID251 -- for the tests, not for the product
"""`make untidy` plays 10,000."""
SEED = 20_261_129
GUILD, USER, OTHER = 100, 200, 201
ROLES = (301, 302, 303)
VIEW, ADMIN, MANAGE = 1 << 10, 1 << 3, 1 << 4
CATEGORY, REDACTED = 4, 1 << 17
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """The three answers that decide what one user sees."""

    listed: list[Any]
    channels: list[Any]
    roles: Any


def overwrite(rng: random.Random) -> Json:
    """Return an overwrite, sometimes odd."""
    target = rng.choice([GUILD, GUILD, USER, OTHER, *ROLES])
    row: Json = {"id": str(target), "type": int(target in {USER, OTHER}), **bits(rng)}
    if rng.random() < 0.1:
        row["type"] = rng.choice([0, 1, 2, 3, -1, None, "0"])
    if rng.random() < 0.05:
        row[rng.choice(["id", "allow", "deny"])] = rng.choice([None, "-1", "x", "", 1024, [], "٨"])
    if rng.random() < 0.03:
        del row[rng.choice(list(row))]
    return row


def bits(rng: random.Random) -> Json:
    """Return what an overwrite allows and denies."""
    allow, deny = rng.choice([(0, VIEW), (VIEW, 0), (0, 0), (VIEW, VIEW), ((1 << 60) | VIEW, 1), (1, (1 << 70) | VIEW)])
    return {"allow": str(allow), "deny": str(deny)}


def channel(rng: random.Random, channel_id: int) -> Any:  # noqa: ANN401 -- JSON
    """Return a channel, sometimes odd."""
    found = [overwrite(rng) for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))]
    if found and rng.random() < 0.15:
        found.append({**found[0], **bits(rng)})
    row: Json = {"id": str(channel_id), "type": rng.choice([0, 0, 2, 4, 15, 99]), "name": "x"}
    row |= {"permission_overwrites": found, "parent_id": rng.choice([None, "1", "2", "77"])}
    odd: list[Json] = [
        {"permission_overwrites": None},
        {"permission_overwrites": rng.choice([{}, "x", [None], [[]]])},
        {"guild_id": rng.choice([str(GUILD), GUILD, "101", 101, 0, "", []])},
        {"flags": rng.choice([REDACTED, REDACTED | 16, None, "16", str(REDACTED), [], 0.5])},
        {"type": rng.choice([None, "0", 10, 11, 12])},
        {"id": rng.choice([None, "0", channel_id, "x"])},
    ]
    if rng.random() < 0.2:
        row |= rng.choice(odd)
    if rng.random() < 0.03:
        del row["permission_overwrites"]
    return rng.choice([None, 7, []]) if rng.random() < 0.01 else row


def guild(rng: random.Random) -> Json:
    """Return the guild in the user's list, sometimes odd."""
    granted = rng.choice([0, VIEW, VIEW, VIEW, VIEW | MANAGE, VIEW | ADMIN, ADMIN, (1 << 70) | VIEW])
    row: Json = {"id": str(GUILD), "name": "g", "owner": rng.random() < 0.05, "permissions": str(granted)}
    if rng.random() < 0.1:
        row |= rng.choice([{"owner": None}, {"owner": "true"}, {"permissions": rng.choice([None, "-1", 8, "x"])}])
    return row


def case(rng: random.Random) -> Case:
    """Return the answers about one user and guild."""
    channels = [channel(rng, number) for number in range(1, rng.randrange(2, 7))]
    channels += [channel(rng, rng.randrange(1, 4)) for _ in range(rng.choice([0, 0, 0, 1, 2]))]
    rng.shuffle(channels)
    listed = [guild(rng) for _ in range(rng.choice([1, 1, 1, 1, 2]))]
    roles: list[Any] = [role if rng.random() < 0.1 else str(role) for role in ROLES if rng.random() < 0.4]
    if rng.random() < 0.15:
        roles.append(rng.choice([*roles, None, "x", "0", [], ROLES[0]]))
    return Case(listed, channels, rng.choice([None, roles, roles, roles]))


def shown(made: Case) -> set[int]:
    """Return what the product shows."""
    listed = {row.guild_id: row for row in payloads.decode_guilds(json.dumps(made.listed).encode())}.get(GUILD)
    if listed is None:
        return set()
    member = model.Membership(USER, GUILD, listed.owner, listed.permissions, None, None)
    rows = payloads.decode_channels(json.dumps(made.channels).encode(), GUILD) if readable(made.channels) else []
    roles = None
    if made.roles is not None:
        with contextlib.suppress(ValueError):  # as if they had not been fetched
            roles = payloads.decode_member(json.dumps({"roles": made.roles}).encode())[1]
    visible = permissions.visible_channels(member, [row for row in rows if not row.redacted], roles)
    return {row.channel_id for row in visible}


def readable(rows: list[Any]) -> bool:
    """Return whether a list has an object at all; without one, the answer counts as a failure."""
    return any(isinstance(row, dict) for row in rows)


# The reference: nothing below knows the product.


def number(value: Any) -> int | None:  # noqa: ANN401 -- JSON
    """Return a decimal number as Discord writes it."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else None


def certain(row: Any) -> bool:  # noqa: ANN401 -- JSON
    """Return whether an overwrite can be read, whatever it says."""
    if not isinstance(row, dict) or None in (number(row.get(key)) for key in ("id", "allow", "deny")):
        return False
    return isinstance(row.get("type"), int) and (row["type"] in (0, 1) or not int(row["deny"]) & VIEW)


def readings(row: Json) -> Iterator[dict[tuple[int, int], tuple[bool, bool]]] | None:
    """Yield each way to choose one of the overwrites for each target; None when one cannot be read."""
    given = row.get("permission_overwrites")
    if not isinstance(given, list) or not all(map(certain, given)):
        return None
    by_target: dict[tuple[int, int], list[tuple[bool, bool]]] = {}
    for one in given:
        if one["type"] in (0, 1):
            effect = bool(int(one["allow"]) & VIEW), bool(int(one["deny"]) & VIEW)
            by_target.setdefault((one["type"], int(one["id"])), []).append(effect)
    return (dict(zip(by_target, way, strict=True)) for way in itertools.product(*by_target.values()))


def allows(way: dict[tuple[int, int], tuple[bool, bool]], granted: int, roles: tuple[int, ...]) -> bool:
    """Return whether one way to read a channel's overwrites shows it, by Discord's algorithm for VIEW_CHANNEL."""
    view = bool(granted & VIEW)
    everyone = way.get((0, GUILD), (False, False))
    view = everyone[0] or (view and not everyone[1])
    theirs = [way[0, role] for role in roles if role != GUILD and (0, role) in way]
    view = any(allow for allow, _ in theirs) or (view and not any(deny for _, deny in theirs))
    own = way.get((1, USER), (False, False))
    return own[0] or (view and not own[1])


def flags(row: Json) -> int | None:
    """Return a channel's flags; None when they cannot be read."""
    given = row.get("flags")
    return 0 if given is None else given if isinstance(given, int) else number(given)


def row_shows(row: Json, granted: int, role_sets: list[tuple[int, ...]]) -> bool:
    """Return whether a row shows its channel in every way to read it, with every possible set of roles."""
    ways = None if flags(row) is None else readings(row)
    return ways is not None and all(allows(way, granted, roles) for way in ways for roles in role_sets)


def strictest(made: Case) -> set[int]:
    """Return the channels that every way to read the answers shows."""
    rights = [(row.get("owner") is True, number(row.get("permissions"))) for row in made.listed]
    known = [(owner, granted) for owner, granted in rights if granted is not None]
    if not known:
        return set()
    roles = made.roles
    named = [role if isinstance(role, int) else number(role) for role in roles or []]
    role_sets = [tuple(role for role in named if role)]
    if roles is None or not all(named):
        role_sets = [some for size in range(len(ROLES) + 1) for some in itertools.combinations(ROLES, size)]
    return set.intersection(*(visible(made.channels, owner, granted, role_sets) for owner, granted in known))


def visible(rows: list[Any], owner: bool, granted: int, role_sets: list[tuple[int, ...]]) -> set[int]:  # noqa: FBT001 -- as listed
    """Return the channels that every row of each shows to a member with these rights."""
    every = owner or bool(granted & ADMIN)
    by_id: dict[int, list[Json]] = {}
    for row in rows:
        identified = isinstance(row, dict) and number(row.get("id")) and isinstance(row.get("type"), int)
        if identified and row.get("guild_id") in (None, GUILD, str(GUILD)):
            by_id.setdefault(int(row["id"]), []).append(row)
    known = {key: same for key, same in by_id.items() if not any((flags(row) or 0) & REDACTED for row in same)}
    if every:
        return set(known)
    plain = {
        key
        for key, same in known.items()
        if all(row["type"] not in {10, 11, 12} and row_shows(row, granted, role_sets) for row in same)
        and len({row["type"] for row in same}) == 1
    }
    rooms = {key for key in known if known[key][0]["type"] == CATEGORY}
    found = {key for key in plain if key not in rooms or granted & MANAGE}
    parents = [{number(row.get("parent_id")) for row in known[key]} for key in plain]
    found |= {key for key in rooms if any(each == {key} for each in parents)}
    # A public thread shows with its parent.
    for key, same in known.items():
        if all(row["type"] in {10, 11} for row in same) and all(number(row.get("parent_id")) in found for row in same):
            found.add(key)
    return found


def test_never_more_is_shown_than_by_the_strictest_reading() -> None:
    """Of any channel, to anybody; and tidy rows are not hidden for the sake of it."""
    rng = random.Random(SEED)
    total = strict = 0
    for _ in range(GUILDS):
        made = case(rng)

        found, wanted = shown(made), strictest(made)

        assert found <= wanted, (found - wanted, made)
        total, strict = total + len(found), strict + len(wanted)
    assert total > 0.9 * strict > GUILDS // 2
