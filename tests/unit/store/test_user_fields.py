"""A user's document, field by field: what each write of pairs, lists and roles leaves."""

import hashlib
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from indexing import errors
from indexing.domain import model
from indexing.store import credentials, users
from indexing.store import database as store_database
from tests import clockwork, stored, values

NOW = clockwork.START
USER, GUILD = values.USER, values.GUILD
SAFE = credentials.Vault((b"k" * 32,))
PAIR = values.credential(expires_at=NOW + 60, brought_by="web")
FIRST = {
    "scopes": ["identify", "guilds", "guilds.members.read"],
    "expires_at": NOW + 60,
    "reauth": False,
    "locked_until": 0.0,
    "doubted_at": 0.0,
    "doubts": 0,
    "brought_by": "web",
}
"""Fields of a pair that was just stored, without its tokens, mark and proof."""
RANDOM = {"credential", "mark"}
Document: TypeAlias = dict[str, Any]


async def document(database: store_database.Database, *without: str) -> Document:
    """Return the user's document without some fields."""
    (row,) = await database["users"].find({}).to_list(None)
    return {name: value for name, value in row.items() if name not in {"by", *without}}


def proof(token: str) -> bytes:
    """Return what names a proven access token: half of its SHA-256."""
    return hashlib.sha256(token.encode()).digest()[:16]


async def test_a_proven_pair_is_stored_unlocked_and_named_by_its_token(database: store_database.Database) -> None:
    """A later login replaces every field, ends what was withdrawn, and gives readers a new version."""
    store = users.Users(database, SAFE)
    await store.put_credential(USER, PAIR)
    first = await document(database)
    ended = {"locked_until": NOW, "doubts": 3, "doubted_at": NOW, "reauth": True, "shown_until": NOW, "unproven": {}}
    await database["users"].update_one({}, {"$set": ended})

    await store.put_credential(USER, PAIR)

    again = await document(database)
    assert {name: first[name] for name in first.keys() - RANDOM} == FIRST | {
        "_id": USER,
        "proof": proof("access"),
        "version": first["version"],
    }
    assert again.keys() == first.keys()
    assert {name: again[name] for name in again.keys() - RANDOM} == {
        **{name: first[name] for name in first.keys() - RANDOM},
        "version": first["version"] + 1,
    }
    assert again["mark"] != first["mark"]


async def test_an_unproven_pair_stands_beside_the_one_in_use(database: store_database.Database) -> None:
    """It has the same fields and no proof; readers see no new version."""
    store = users.Users(database, SAFE)
    await store.put_credential(USER, PAIR)
    before = await document(database)

    await store.put_unproven(USER, PAIR)

    after = await document(database)
    beside = after.pop("unproven")
    assert after == before
    assert {name: beside[name] for name in beside.keys() - RANDOM} == FIRST | {"proof": b""}
    assert len(beside["mark"]) == 32


Change: TypeAlias = Callable[[credentials.Credentials, str], Awaitable[object]]
GONE: Document = dict.fromkeys(["credential", "scopes", "expires_at", "doubted_at", "proof", "brought_by"])
CHANGES: dict[str, tuple[Change, Document, set[str]]] = {
    "locked": (
        lambda pairs, mark: pairs.lock(USER, version=mark, now=NOW, until=NOW + 9),
        {"locked_until": NOW + 9},
        {"mark"},
    ),
    "unlocked": (lambda pairs, mark: pairs.unlock(USER, version=mark), {"locked_until": 0.0}, set()),
    "unlocked until later": (
        lambda pairs, mark: pairs.unlock(USER, version=mark, until=NOW + 5),
        {"locked_until": NOW + 5},
        set(),
    ),
    "renewed": (
        lambda pairs, mark: pairs.store_renewed(USER, version=mark, credential=PAIR, proven=False),
        {"locked_until": 0.0, "doubts": 0, "doubted_at": 0.0, "proof": b""},
        RANDOM,
    ),
    "doubted": (
        lambda pairs, mark: pairs.mark_doubted(USER, version=mark, doubts=2, at=NOW + 4),
        {"doubts": 3, "doubted_at": NOW + 4},
        set(),
    ),
    "doubted by an older reader": (
        lambda pairs, mark: pairs.mark_doubted(USER, version=mark, doubts=0, at=NOW + 4),
        {},
        set(),
    ),
    "rejected": (
        lambda pairs, mark: pairs.reject(USER, version=mark),
        {"reauth": True, "locked_until": 0.0, "shown_until": 0.0, "version": 8, **GONE},
        {"mark"},
    ),
    "refused": (
        lambda pairs, mark: pairs.mark_refused(USER, version=mark, shown_until=NOW + 30),
        {"reauth": True, "locked_until": 0.0, "shown_until": NOW + 30, "version": 8},
        set(),
    ),
    "deleted": (
        lambda pairs, _: pairs.delete(USER, shown_until=NOW + 30),
        {
            **dict.fromkeys(["credential", "scopes", "expires_at", "reauth", "locked_until", "doubted_at", "doubts"]),
            "brought_by": None,
            "shown_until": NOW + 30,
            "version": 8,
        },
        {"mark"},
    ),
}


@pytest.mark.parametrize(("change", "fields", "renamed"), [*CHANGES.values()], ids=[*CHANGES])
async def test_a_change_of_a_pair_writes_exactly_its_fields(
    database: store_database.Database, change: Change, fields: Document, renamed: set[str]
) -> None:
    """None is a field that is erased; a new mark takes the pair from a process that renews it."""
    await users.Users(database, SAFE).put_credential(USER, PAIR)
    held = {"locked_until": NOW - 1, "doubts": 2, "doubted_at": NOW - 2, "version": 7}
    await database["users"].update_one({}, {"$set": held})
    before = await document(database)

    await change(credentials.Credentials(database, SAFE), before["mark"])

    after = await document(database)
    expected = {name: value for name, value in (before | fields).items() if value is not None}
    assert after | {name: expected.get(name) for name in renamed} == expected
    assert all(after[name] != before[name] for name in renamed)


async def test_the_first_doubt_is_noted_when_an_older_release_stored_none(database: store_database.Database) -> None:
    """A pair without the field has no doubts."""
    await users.Users(database, SAFE).put_credential(USER, PAIR)
    await database["users"].update_one({}, {"$unset": {"doubts": "", "doubted_at": "", "locked_until": ""}})
    pairs = credentials.Credentials(database, SAFE)
    found = await pairs.get(USER)

    await pairs.mark_doubted(USER, version=found.version, doubts=found.doubts, at=NOW)

    assert (found.locked_until, found.doubted_at, found.doubts) == (0.0, 0.0, 0)
    assert (await document(database))["doubts"] == 1


async def test_a_consent_that_ends_twice_is_shown_until_the_earlier_moment(database: store_database.Database) -> None:
    """A refusal after a revocation prolongs nothing."""
    await users.Users(database, SAFE).put_credential(USER, PAIR)
    pairs = credentials.Credentials(database, SAFE)
    mark = (await document(database))["mark"]

    shown = []
    for moment in (NOW + 20, NOW + 30, NOW + 10):
        await pairs.mark_refused(USER, version=mark, shown_until=moment)
        shown.append((await document(database))["shown_until"])

    assert shown == [NOW + 20, NOW + 20, NOW + 10]


async def test_a_list_writes_rights_and_the_moment_of_each_membership(database: store_database.Database) -> None:
    """The next list writes moments for other rights only, which are later than any stored one."""
    store = users.Users(database, SAFE)
    await stored.guild_list(store, USER, [values.user_guild(7), values.user_guild(8), values.user_guild(9)], NOW)
    first = await document(database, "rights")
    for guild_id in (7, 8, 9):
        await stored.roles(store, USER, guild_id, [3], NOW + 5)

    rows = [values.user_guild(7), values.user_guild(8, owner=True)]
    await stored.guild_list(store, USER, rows, NOW + 2)

    second = await document(database, "rights")
    assert first == {
        "_id": USER,
        "version": first["version"],
        "schema": 1,
        "pinned": [],
        "muted": [],
        "listed_at": NOW,
        "list_proven_at": NOW,
        "roles_changed_at": {"7": NOW, "8": NOW, "9": NOW},
    }
    moments = second["roles_changed_at"]
    assert (moments.keys(), moments["7"]) == ({"7", "8"}, NOW + 5)
    assert 0 < moments["8"] - (NOW + 5) < 0.001
    assert second["role_ids"].keys() == second["roles_at"].keys() == {"7"}
    assert (second["listed_at"], second["list_proven_at"]) == (NOW + 2, NOW + 2)


async def test_roles_that_are_confirmed_make_a_version_every_five_minutes(database: store_database.Database) -> None:
    """Readers see their age; other roles make one at once."""
    store = users.Users(database, SAFE)
    await stored.guild_list(store, USER, [values.user_guild()], NOW)
    versions = []
    for role_ids, later in (([3], 0), ([3], 299), ([3], 300 + 299), ([4], 300 + 300)):
        await stored.roles(store, USER, GUILD, role_ids, NOW + later)
        versions.append((await document(database))["version"])

    assert [version - versions[0] for version in versions] == [0, 0, 1, 2]


async def test_roles_are_newer_than_any_stored_ones_when_the_clock_was_set_back(
    database: store_database.Database,
) -> None:
    """A copy of an earlier response that arrives late is recognized by the moment."""
    store = users.Users(database, SAFE)
    await stored.guild_list(store, USER, [values.user_guild()], NOW)

    await stored.roles(store, USER, GUILD, [3], NOW - 60)

    row = await document(database)
    assert row["roles_at"] == {str(GUILD): NOW - 60}
    assert 0 < row["roles_changed_at"][str(GUILD)] - NOW < 0.001


@pytest.mark.parametrize(("view_at", "recorded_at"), [(NOW + 299, NOW), (NOW + 300, NOW + 300)])
async def test_a_view_of_a_user_is_recorded_when_the_last_one_is_five_minutes_old(
    database: store_database.Database, view_at: float, recorded_at: float
) -> None:
    """Each view would be a write."""
    store = users.Users(database, SAFE)
    await stored.guild_list(store, USER, [values.user_guild()], NOW)

    for moment in (NOW, view_at):
        await store.mark_viewed(USER, GUILD, moment)

    assert (await document(database))["looked_at"] == {str(GUILD): recorded_at}


async def test_the_latest_500_guilds_are_kept_when_a_user_has_left_more(database: store_database.Database) -> None:
    """An erasure looks at them; a roster stays small."""
    store = users.Users(database, SAFE)
    await stored.guild_list(store, USER, [values.user_guild(number) for number in range(1, 502)], NOW)

    await stored.guild_list(store, USER, [], NOW + 1)

    (row,) = await database["rosters"].find({}).to_list(None)
    assert row["former"] == list(range(2, 502))


class Racing:
    """A collection of users in which another process writes before each conditional write."""

    def __init__(self, collection: store_database.Collection, change: Document) -> None:
        self._collection = collection
        self._change = change
        self.writes = 0

    async def find_one(self, *given: Any) -> Any:  # noqa: ANN401 -- motor's
        """Read."""
        return await self._collection.find_one(*given)

    async def update_one(self, *given: Any) -> Any:  # noqa: ANN401 -- motor's
        """Let the other write first."""
        self.writes += 1
        await self._collection.update_one({}, self._change)
        return await self._collection.update_one(*given)

    async def find_one_and_update(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 -- motor's
        """Let the other write first."""
        self.writes += 1
        await self._collection.update_one({}, {"$set": {"mark": str(self.writes)}})
        return await self._collection.find_one_and_update(*given, **named)


async def test_preferences_fail_when_five_writes_of_others_came_between(database: store_database.Database) -> None:
    """The caller tries again; each attempt compares what it has read."""
    store = users.Users(database, SAFE)
    await store.put_preferences(USER, model.Preferences((1,), ()))
    store._users = racing = Racing(database["users"], {"$inc": {"preferred": 1}})

    with pytest.raises(errors.StoreUnavailable):
        await store.put_preferences(USER, model.Preferences((2,), ()))

    assert racing.writes == 5
    assert (await document(database))["pinned"] == [1]


async def test_a_deletion_fails_when_five_other_pairs_came_between(database: store_database.Database) -> None:
    """The pair of a login that it did not see stays."""
    await users.Users(database, SAFE).put_credential(USER, PAIR)
    pairs = credentials.Credentials(database, SAFE)
    pairs._users = racing = Racing(database["users"], {})

    with pytest.raises(errors.StoreUnavailable):
        await pairs.delete(USER, shown_until=NOW)

    assert racing.writes == 5
    assert "credential" in await document(database)


async def test_preferences_and_their_version_change_together(database: store_database.Database) -> None:
    """Another write of them since is noticed by the count."""
    store = users.Users(database, SAFE)
    await store.put_preferences(USER, model.Preferences((1,), (2,)))
    before = await document(database)

    await store.put_preferences(USER, model.Preferences((3,), (4,)), ("muted",))

    assert before == {"_id": USER, "version": before["version"], "pinned": [1], "muted": [2]}
    assert await document(database) == before | {"muted": [4], "version": before["version"] + 1, "preferred": 1}


def test_a_user_of_whom_only_the_id_is_stored_has_nothing() -> None:
    """A document of an older release may miss any field."""
    assert users.user_of({"_id": USER}) == model.User(
        user_id=USER,
        version=0,
        listed_at=None,
        memberships={},
        preferences=model.Preferences((), ()),
        list_proven=True,
        shown_until=math.inf,
        erasure=None,
    )


def test_the_time_of_a_refusal_counts_as_stored() -> None:
    """Zero is a time: nothing is shown any more."""
    assert [users.shown_until({"shown_until": moment, "reauth": True}) for moment in (0, 5.0)] == [0.0, 5.0]
    assert users.shown_until({"reauth": False, "mark": "m"}) == math.inf


async def test_a_sealed_value_is_key_nonce_and_text() -> None:
    """Four bytes name the key, twelve are the nonce, sixteen the tag; releases read each other's values."""
    sealed = SAFE.seal(USER, b"text")

    assert len(sealed) == 4 + 12 + len(b"text") + 16
    assert sealed[:4] == hashlib.sha256(b"k" * 32).digest()[:4]
