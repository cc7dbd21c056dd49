"""Token pairs, renewed and revoked under compare-and-set."""

import itertools
import math

import pytest

from indexing import errors
from indexing.domain import ports
from tests import clockwork, values
from tests.contract import conftest

NOW = clockwork.START
NEW = values.credential(access_token="new", refresh_token="new refresh", expires_at=NOW + 604_800.0)


@pytest.fixture
async def pairs(stores: conftest.Stores) -> ports.Credentials:
    """One user's pair is stored."""
    await stores.users.put_credential(values.USER, values.credential(expires_at=NOW + 60.0))
    return stores.credentials


async def locked(pairs: ports.Credentials) -> str:
    """Lock the pair, which must be free."""
    held = await pairs.get(values.USER)
    version = await pairs.lock(values.USER, version=held.version, now=NOW, until=NOW + 10.0)
    assert version is not None
    return version


async def test_the_user_stays_known_when_their_pair_is_deleted(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """Indexed data stays until the user is erased."""
    await pairs.delete(values.USER, shown_until=0.0)

    assert await stores.users.exists(values.USER)


async def test_the_pair_is_held_whole_when_it_was_stored(pairs: ports.Credentials) -> None:
    """With its scopes and expiry, unlocked and not refused; a missing one raises."""
    held = await pairs.get(values.USER)

    assert (held.credential, held.locked_until, held.refused) == (
        values.credential(expires_at=NOW + 60.0),
        0.0,
        False,
    )
    with pytest.raises(errors.CredentialMissing):
        await pairs.get(values.USER + 1)


async def test_one_of_two_gets_the_lock_when_both_have_read_the_same(pairs: ports.Credentials) -> None:
    """The second finds another version than it read, and with the new version it finds the lock."""
    held = await pairs.get(values.USER)
    until = NOW + 10.0

    first = await pairs.lock(values.USER, version=held.version, now=NOW, until=until)
    second = await pairs.lock(values.USER, version=held.version, now=NOW, until=until)
    third = await pairs.lock(values.USER, version=first, now=NOW + 9.9, until=until + 10.0)

    assert (first is not None, second, third) == (True, None, None)
    assert (await pairs.get(values.USER)).locked_until == until


async def test_a_lock_is_taken_over_when_its_time_is_over(pairs: ports.Credentials) -> None:
    """A crashed process blocks no other for longer; its late writes change nothing."""
    dead = await locked(pairs)

    alive = await pairs.lock(values.USER, version=dead, now=NOW + 10.0, until=NOW + 20.0)

    assert alive is not None
    assert not await pairs.store_renewed(values.USER, version=dead, credential=NEW, proven=True)
    assert not await pairs.mark_refused(values.USER, version=dead, shown_until=0.0)
    assert (await pairs.get(values.USER)).credential.access_token == "access"


async def test_the_new_pair_replaces_the_old_one_when_the_lock_is_held(pairs: ports.Credentials) -> None:
    """At once, for the users port as well, and it can be renewed again."""
    version = await locked(pairs)

    stored = await pairs.store_renewed(values.USER, version=version, credential=NEW, proven=True)

    held = await pairs.get(values.USER)
    assert stored
    assert (held.credential, held.locked_until) == (NEW, 0.0)
    assert not await pairs.store_renewed(values.USER, version=version, credential=values.credential(), proven=True)


async def test_a_new_consent_wins_when_it_is_stored_during_a_renewal(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """Neither the renewed pair nor a refusal of the old one changes the new credential."""
    version = await locked(pairs)
    await stores.users.put_credential(values.USER, NEW)

    assert not await pairs.store_renewed(values.USER, version=version, credential=values.credential(), proven=True)
    assert not await pairs.mark_refused(values.USER, version=version, shown_until=0.0)
    assert await stores.users.credential(values.USER) == NEW


async def test_the_pair_rests_when_it_was_unlocked_until_later(pairs: ports.Credentials) -> None:
    """No process renews it before that time; afterwards the next one may."""
    version = await locked(pairs)

    await pairs.unlock(values.USER, version=version, until=NOW + 5.0)

    assert await pairs.lock(values.USER, version=version, now=NOW + 4.0, until=NOW + 9.0) is None
    assert await pairs.lock(values.USER, version=version, now=NOW + 5.0, until=NOW + 9.0) is not None


async def test_a_lock_is_free_when_the_clock_was_set_back_since(pairs: ports.Credentials) -> None:
    """No lock lasts 300 s, so that one which seems to is from before."""
    version = (await pairs.get(values.USER)).version
    ours = await pairs.lock(values.USER, version=version, now=NOW + 3_600, until=NOW + 3_620)
    assert ours is not None

    assert await pairs.lock(values.USER, version=ours, now=NOW + 3_400, until=NOW + 3_420) is None
    assert await pairs.lock(values.USER, version=ours, now=NOW, until=NOW + 20) is not None


async def test_a_suspected_refusal_applies_to_one_pair_when_it_is_stored(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """It stays until it is cleared or another pair is stored; a late write changes nothing."""
    before = (await pairs.get(values.USER)).version
    await pairs.mark_doubted(values.USER, version=before, doubts=0, at=NOW)
    doubted = await pairs.get(values.USER)
    await pairs.mark_doubted(values.USER, version=before, doubts=1, at=0.0)
    trusted = await pairs.get(values.USER)
    await pairs.mark_doubted(values.USER, version=before, doubts=2, at=NOW)
    await stores.users.put_credential(values.USER, NEW)
    await pairs.mark_doubted(values.USER, version=before, doubts=0, at=NOW)
    brought = await pairs.get(values.USER)
    version = await locked(pairs)
    await pairs.mark_doubted(values.USER, version=version, doubts=0, at=NOW)
    await pairs.store_renewed(values.USER, version=version, credential=NEW, proven=True)

    assert (doubted.doubted_at, doubted.version, doubted.refused) == (NOW, before, False)
    assert (trusted.doubted_at, brought.doubted_at) == (0.0, 0.0)
    assert (await pairs.get(values.USER)).doubted_at == 0.0


async def test_the_pair_is_withheld_when_it_was_refused(stores: conftest.Stores, pairs: ports.Credentials) -> None:
    """The users port does not return it; its status can still be read."""
    refused = await pairs.mark_refused(values.USER, version=await locked(pairs), shown_until=0.0)

    assert refused
    assert (await pairs.get(values.USER)).refused
    with pytest.raises(errors.ReauthRequired):
        await stores.users.credential(values.USER)


async def test_nothing_is_left_when_the_pair_is_deleted(stores: conftest.Stores, pairs: ports.Credentials) -> None:
    """It is returned once, to be revoked at Discord; a renewal in flight restores nothing."""
    version = await locked(pairs)

    first, second = await pairs.delete(values.USER, shown_until=0.0), await pairs.delete(values.USER, shown_until=0.0)

    assert (first, second) == (values.credential(expires_at=NOW + 60.0), None)
    assert not await pairs.store_renewed(values.USER, version=version, credential=NEW, proven=True)
    with pytest.raises(errors.CredentialMissing):
        await pairs.get(values.USER)
    with pytest.raises(errors.CredentialMissing):
        await stores.users.credential(values.USER)


async def test_the_user_stays_unknown_when_an_unknown_users_pair_is_deleted(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """Neither deletion nor refusal of an unknown user's pair stores anything."""
    assert await pairs.delete(values.USER + 1, shown_until=0.0) is None
    assert not await pairs.mark_refused(values.USER + 1, version=None, shown_until=0.0)
    assert not await stores.users.exists(values.USER + 1)
    assert await pairs.lock(values.USER + 1, version=None, now=NOW, until=NOW + 1.0) is None


async def test_an_unproven_pair_is_kept_beside_when_another_is_in_use(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """The newest usable one is what a start finds; the one in use stays, and a later unproven pair replaces it."""
    await stores.users.put_unproven(values.USER, values.credential(access_token="first"))
    await stores.users.put_unproven(values.USER, NEW)

    held, newer = await pairs.get(values.USER), await stores.unproven.get(values.USER)

    assert (held.credential, held.proven, held.has_newer) == (values.credential(expires_at=NOW + 60.0), True, True)
    assert (newer.credential, newer.proven) == (NEW, False)
    assert await stores.users.credential(values.USER) == NEW


async def test_an_unproven_pair_is_all_that_is_found_when_there_is_no_other(stores: conftest.Stores) -> None:
    """The user becomes known, and a start finds the pair."""
    await stores.users.put_unproven(values.USER + 1, NEW)

    assert await stores.users.credential(values.USER + 1) == NEW
    with pytest.raises(errors.CredentialMissing):
        await stores.credentials.get(values.USER + 1)


async def test_a_pair_is_in_use_when_it_was_proven(stores: conftest.Stores, pairs: ports.Credentials) -> None:
    """From its own place, under its version; nothing is left beside it."""
    await stores.users.put_unproven(values.USER, values.credential(access_token="newer"))
    newer = await stores.unproven.get(values.USER)

    assert not await stores.unproven.mark_proven(values.USER, version="another", credential=NEW)
    assert await stores.unproven.mark_proven(values.USER, version=newer.version, credential=NEW)

    held = await pairs.get(values.USER)
    assert (held.credential, held.proven, held.has_newer) == (NEW, True, False)
    with pytest.raises(errors.CredentialMissing):
        await stores.unproven.get(values.USER)


async def test_nothing_is_left_beside_when_a_proven_pair_is_put(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """An older unproven pair must not replace it later."""
    await stores.users.put_unproven(values.USER, values.credential(access_token="newer"))

    await stores.users.put_credential(values.USER, NEW)

    assert not (await pairs.get(values.USER)).has_newer
    assert await stores.users.credential(values.USER) == NEW


async def test_an_unproven_pair_is_renewed_in_its_place(stores: conftest.Stores, pairs: ports.Credentials) -> None:
    """The lock is its own, and a renewed pair is as proven as the one before."""
    await stores.users.put_unproven(values.USER, values.credential(access_token="newer"))
    newer = await stores.unproven.get(values.USER)
    version = await stores.unproven.lock(values.USER, version=newer.version, now=NOW, until=NOW + 9.0)
    assert version is not None
    other = await locked(pairs)

    assert await stores.unproven.store_renewed(values.USER, version=version, credential=NEW, proven=False)
    assert await pairs.store_renewed(values.USER, version=other, credential=NEW, proven=True)

    assert not (await stores.unproven.get(values.USER)).proven
    assert (await pairs.get(values.USER)).proven


async def test_a_pair_is_erased_when_it_is_not_the_users(stores: conftest.Stores, pairs: ports.Credentials) -> None:
    """Only the user can replace it, and nothing is shown until they have."""
    version = (await pairs.get(values.USER)).version

    assert not await pairs.reject(values.USER, version="another")
    assert await pairs.reject(values.USER, version=version)

    held, user = await pairs.get(values.USER), await stores.users.load(values.USER)
    assert (held.credential, held.refused) == (ports.REJECTED, True)
    assert user is not None
    assert user.shown_until == 0.0
    assert await pairs.delete(values.USER, shown_until=0.0) is None
    await stores.users.put_credential(values.USER, NEW)
    assert (await pairs.get(values.USER)).credential == NEW


async def test_only_the_newer_pair_is_erased_when_it_is_not_the_users(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """The one in use is shown and used as before."""
    await stores.users.put_unproven(values.USER, NEW)
    newer = await stores.unproven.get(values.USER)

    assert await stores.unproven.reject(values.USER, version=newer.version)

    held, user = await pairs.get(values.USER), await stores.users.load(values.USER)
    assert (held.refused, held.has_newer) == (False, False)
    assert user is not None
    assert user.shown_until == math.inf
    assert await stores.users.credential(values.USER) == values.credential(expires_at=NOW + 60.0)


async def test_both_pairs_are_erased_when_the_credential_is_deleted(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """No turn may use what a caller has revoked."""
    await stores.users.put_unproven(values.USER, NEW)

    await pairs.delete(values.USER, shown_until=NOW)

    for left in (pairs, stores.unproven):
        with pytest.raises(errors.CredentialMissing):
            await left.get(values.USER)


async def test_a_user_is_shown_until_their_consent_ended_and_again_when_a_pair_is_proven(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """The earliest end counts; an unproven pair does not change it. Readers see each change by the version."""
    seen = []

    async def note() -> None:
        user = await stores.users.load(values.USER)
        assert user is not None
        seen.append((user.shown_until, user.version))

    await note()
    await pairs.mark_refused(values.USER, version=(await pairs.get(values.USER)).version, shown_until=NOW + 9.0)
    await note()
    await pairs.delete(values.USER, shown_until=NOW + 5.0)
    await note()
    await pairs.delete(values.USER, shown_until=NOW + 60.0)
    await stores.users.put_unproven(values.USER, NEW)
    await note()
    await stores.users.put_credential(values.USER, NEW)
    await note()

    assert [until for until, _ in seen] == [math.inf, NOW + 9.0, NOW + 5.0, NOW + 5.0, math.inf]
    assert all(before[0] == after[0] or before[1] != after[1] for before, after in itertools.pairwise(seen))


async def test_the_caller_that_brought_a_pair_is_stored_with_it(stores: conftest.Stores) -> None:
    """While it is unproven, proven and renewed; nothing is left of it when the pair is deleted or replaced."""
    await stores.users.put_unproven(values.USER, values.credential(brought_by="shop"))
    held = await stores.unproven.get(values.USER)
    assert held.credential.brought_by == "shop"

    await stores.unproven.mark_proven(values.USER, version=held.version, credential=held.credential)
    version = await locked(stores.credentials)
    kept = (await stores.credentials.get(values.USER)).credential
    await stores.credentials.store_renewed(values.USER, version=version, credential=kept, proven=True)
    assert (await stores.credentials.get(values.USER)).credential.brought_by == "shop"

    await stores.users.put_credential(values.USER, values.credential())
    assert (await stores.credentials.get(values.USER)).credential.brought_by == ""
