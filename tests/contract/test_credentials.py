"""Token pairs, renewed and revoked under compare-and-set."""

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


async def test_a_suspected_refusal_applies_to_one_pair_when_it_is_stored(
    stores: conftest.Stores, pairs: ports.Credentials
) -> None:
    """It stays until it is cleared or another pair is stored; a late write changes nothing."""
    before = (await pairs.get(values.USER)).version
    await pairs.mark_doubted(values.USER, version=before, at=NOW)
    doubted = await pairs.get(values.USER)
    await pairs.mark_doubted(values.USER, version=before, at=0.0)
    trusted = await pairs.get(values.USER)
    await pairs.mark_doubted(values.USER, version=before, at=NOW)
    await stores.users.put_credential(values.USER, NEW)
    await pairs.mark_doubted(values.USER, version=before, at=NOW)
    brought = await pairs.get(values.USER)
    version = await locked(pairs)
    await pairs.mark_doubted(values.USER, version=version, at=NOW)
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
