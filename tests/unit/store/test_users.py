"""A user's document: sealed credentials, packed rights, and flat maps of the fields that change by guild."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from indexing import errors
from indexing.domain import model
from indexing.store import credentials, users
from indexing.store import database as store_database
from tests import clockwork, stored, values

NOW = clockwork.START
KEY, NEW = b"k" * 32, b"n" * 32
USER = values.USER


async def test_no_token_is_readable_when_a_credential_is_stored(database: store_database.Database) -> None:
    """Documents contain scopes and times, but no plain-text token."""
    credential = values.credential(access_token="the-access-secret", refresh_token="the-refresh-secret")

    await users.Users(database, credentials.Vault((KEY,))).put_credential(USER, credential)

    (row,) = await database["users"].find({}).to_list(None)
    assert "secret" not in repr(row)
    assert row["scopes"] == list(credential.scopes)


async def test_reauth_is_required_when_a_credential_cannot_be_decrypted(database: store_database.Database) -> None:
    """Its key was removed, or it was copied into another user's document."""
    store = users.Users(database, credentials.Vault((KEY,)))
    await store.put_credential(USER, values.credential())
    await store.put_credential(USER + 1, values.credential())
    (row,) = await database["users"].find({"_id": USER}).to_list(None)
    await database["users"].update_one({"_id": USER + 1}, {"$set": {"credential": row["credential"]}})

    with pytest.raises(errors.ReauthRequired):
        await users.Users(database, credentials.Vault((NEW,))).credential(USER)
    with pytest.raises(errors.ReauthRequired):
        await store.credential(USER + 1)


async def test_a_credential_is_readable_when_the_key_was_rotated(database: store_database.Database) -> None:
    """Rotating keys needs no new login."""
    await users.Users(database, credentials.Vault((KEY,))).put_credential(USER, values.credential())

    found = await users.Users(database, credentials.Vault((NEW, KEY))).credential(USER)

    assert found == values.credential()


async def test_only_the_rights_of_a_guild_stay_when_a_departure_is_stored(
    database: store_database.Database,
) -> None:
    """Only guild lists write rights; the maps have one value for each guild."""
    store = users.Users(database, credentials.Vault((KEY,)))
    await stored.guild_list(store, USER, [values.user_guild(7), values.user_guild(8, owner=True)], NOW)
    for guild_id in (7, 8):
        await stored.roles(store, USER, guild_id, (3, 1 << 62), NOW + 1)
        await store.mark_viewed(USER, guild_id, NOW + 2)

    assert await stored.left(store, USER, 7)

    (row,) = await database["users"].find({}).to_list(None)
    assert msgspec.msgpack.decode(row["rights"]) == [[7, False, values.VIEW], [8, True, values.VIEW]]
    assert row["role_ids"] == {"8": (3).to_bytes(8, "little") + (1 << 62).to_bytes(8, "little")}
    assert (row["roles_at"], row["roles_changed_at"], row["looked_at"]) == (
        {"8": NOW + 1},
        {"8": NOW + 1},
        {"8": NOW + 2},
    )


async def test_the_roster_is_updated_when_the_guilds_change(database: store_database.Database) -> None:
    """A separate document that includes guilds that the user has left; an unchanged set is not written."""
    store = users.Users(database, credentials.Vault((KEY,)))
    rosters = []
    for later, guild_ids in enumerate(([7, 8], [8, 9], [8, 9])):
        await stored.guild_list(store, USER, [values.user_guild(row) for row in guild_ids], NOW + later)
        rosters += await database["rosters"].find({}, {"mark": 0}).to_list(None)

    assert rosters == [
        {"_id": USER, "guild_ids": [7, 8]},
        {"_id": USER, "guild_ids": [8, 9], "former": [7]},
        {"_id": USER, "guild_ids": [8, 9], "former": [7]},
    ]


class LateShrinks:
    """A collection of rosters in which the user comes back before a roster shrinks."""

    def __init__(self, rosters: store_database.Collection, come_back: Callable[[], Awaitable[object]]) -> None:
        self._rosters = rosters
        self._come_back = come_back

    async def update_one(self, wanted: Any, update: Any, **options: Any) -> Any:  # noqa: ANN401 -- motor's
        """Let the user come back before a write that removes guilds."""
        if "former" in update.get("$push", {}):
            await self._come_back()
        return await self._rosters.update_one(wanted, update, **options)


@pytest.mark.parametrize("noticed_by", ["list", "role-answer"])
async def test_a_roster_keeps_a_guild_when_the_user_returns_before_it_shrinks(
    database: store_database.Database, noticed_by: str
) -> None:
    """It may name too many guilds, never too few: a guild outside all rosters is erased."""
    store, other = (users.Users(database, credentials.Vault((KEY,))) for _ in range(2))
    both = [values.user_guild(7), values.user_guild(8)]
    await stored.guild_list(store, USER, both, NOW)

    async def come_back() -> None:
        assert await stored.guild_list(other, USER, both, NOW + 2)

    store._rosters = LateShrinks(store._rosters, come_back)

    if noticed_by == "list":
        assert await stored.guild_list(store, USER, [values.user_guild(8)], NOW + 1)
    else:
        assert await stored.left(store, USER, 7)

    found = await store.load(USER)
    assert found is not None
    assert set(found.memberships) == {7, 8}
    assert set((await database["rosters"].find_one({}))["guild_ids"]) == {7, 8}


async def test_no_roster_is_stored_when_a_departure_arrives_after_the_erasure(
    database: store_database.Database,
) -> None:
    """Nothing would erase it again."""
    store = users.Users(database, credentials.Vault((KEY,)))

    assert not await store.mark_left(values.membership(guild_id=7, roles_changed_at=NOW))

    assert await database["rosters"].find({}).to_list(None) == []


async def test_a_list_of_a_newer_format_counts_as_none_and_stays_as_it_is(database: store_database.Database) -> None:
    """During an upgrade, a process that cannot read the rights shows nothing and overwrites nothing."""
    store = users.Users(database, credentials.Vault((KEY,)))
    await stored.guild_list(store, USER, [values.user_guild(7)], NOW)
    (row,) = await database["users"].find({}).to_list(None)
    await database["users"].update_one({"_id": USER}, {"$set": {"schema": users.SCHEMA + 1, "rights": b"newer"}})

    found = await store.load(USER)
    written = await stored.guild_list(store, USER, [values.user_guild(8)], NOW + 1)

    assert found is not None
    assert (found.listed_at, found.memberships, written) == (None, {}, False)
    assert row["schema"] == users.SCHEMA
    assert (await database["users"].find_one({}))["rights"] == b"newer"


async def test_a_user_is_loaded_when_an_older_document_lacks_fields(database: store_database.Database) -> None:
    """An empty document, and one with unknown fields."""
    await database["users"].insert_many([{"_id": USER}, {"_id": USER + 1, "version": 3, "brand_new": 1}])
    store = users.Users(database, credentials.Vault((KEY,)))

    found = [await store.load(user_id) for user_id in (USER, USER + 1)]

    assert found == [
        model.User(USER, 0, None, {}, model.Preferences()),
        model.User(USER + 1, 3, None, {}, model.Preferences()),
    ]


@pytest.mark.parametrize(
    ("fields", "shown_until"),
    [
        pytest.param({"credential": b"", "scopes": [], "mark": "m", "reauth": False}, math.inf, id="in use"),
        pytest.param({"credential": b"", "scopes": []}, math.inf, id="in use, without later fields"),
        pytest.param({"credential": b"", "scopes": [], "mark": "m", "reauth": True}, 0.0, id="refused"),
        pytest.param({"mark": "m"}, 0.0, id="revoked"),
    ],
)
async def test_nothing_is_shown_when_the_consent_ended_in_an_older_release(
    database: store_database.Database, fields: store_database.Document, shown_until: float
) -> None:
    """It has no time; a list of that release is not proven to be the user's."""
    await database["users"].insert_one({"_id": USER, "listed_at": NOW, **fields})

    user = await users.Users(database, credentials.Vault((KEY,))).load(USER)

    assert user is not None
    assert (user.shown_until, user.list_proven) == (shown_until, False)


async def test_a_pair_is_not_proven_when_the_previous_release_has_replaced_it(
    database: store_database.Database,
) -> None:
    """That release leaves the fields that it does not know; the same holds for its guild lists."""
    safe = credentials.Vault((KEY,))
    people, pairs = users.Users(database, safe), credentials.Credentials(database, safe)
    await people.put_credential(USER, values.credential())
    await stored.guild_list(people, USER, [values.user_guild(7)], NOW)
    before = (await pairs.get(USER)).proven, (await stored.user(people, USER)).list_proven

    sealed = credentials.sealed(safe, USER, values.credential(access_token="another"), proven=False)
    del sealed["proof"]
    await database["users"].update_one({"_id": USER}, {"$set": sealed | {"listed_at": NOW + 1}})

    assert before == (True, True)
    assert not (await pairs.get(USER)).proven
    assert not (await stored.user(people, USER)).list_proven
