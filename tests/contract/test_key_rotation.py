"""Keys are rotated: every pair is sealed anew in place, whatever else happens to it meanwhile."""

import asyncio
import functools
import os
import pathlib
import subprocess
import sys

import pymongo
import pytest

from indexing import settings
from indexing.domain import model, ports
from indexing.store import credentials, database, key_rotation, users
from tests import values

OLD, NEW, LOST = (letter * settings.KEY_BYTES for letter in (b"o", b"n", b"l"))
SECRETS = ("b" * 43, "a" * 43)
"""Keys as they stand in the environment, the older one first."""


def pair(user_id: int) -> ports.Credential:
    """Return a pair that differs from all others."""
    return values.credential(access_token=f"access {user_id}", refresh_token=f"refresh {user_id}")


async def put(database: database.Database, key: bytes, *user_ids: int) -> None:
    """Store pairs, sealed with a key."""
    for user_id in user_ids:
        await users.Users(database, credentials.Vault((key,))).put_credential(user_id, pair(user_id))


def quiet(_: key_rotation.Tally) -> None:
    """Show no progress."""


def rotating(database: database.Database) -> key_rotation.Rotation:
    """Return what seals with the new key, two at a time."""
    return key_rotation.Rotation(database, credentials.Vault((NEW, OLD)), batch=2)


async def test_every_pair_opens_with_the_new_key_alone_when_all_is_sealed_anew(database: database.Database) -> None:
    """What is sealed by it already is left alone, and a user without a credential does not matter."""
    await put(database, OLD, *range(1, 6))
    await put(database, NEW, 6)
    await users.Users(database, credentials.Vault((NEW,))).put_preferences(7, model.Preferences(pinned=(1,)))

    tally = await rotating(database).run(quiet)

    alone = users.Users(database, credentials.Vault((NEW,)))
    assert tally == key_rotation.Tally(seen=6, resealed=5)
    assert [await alone.credential(user_id) for user_id in range(1, 7)] == [pair(user_id) for user_id in range(1, 7)]
    assert await rotating(database).run(quiet) == key_rotation.Tally(seen=6)


async def test_a_renewed_pair_stays_when_it_came_between_reading_and_writing(database: database.Database) -> None:
    """Compare and set: nothing is written over what is not the bytes that were read; the next round looks again."""
    await put(database, OLD, 1, 2)
    sealing, tally = rotating(database), key_rotation.Tally()
    batch = await sealing.read(-1)
    assert batch is not None
    renewed = values.credential(access_token="renewed")
    await users.Users(database, credentials.Vault((OLD,))).put_credential(1, renewed)

    await sealing.write(batch, tally)

    store = users.Users(database, credentials.Vault((NEW, OLD)))
    assert tally == key_rotation.Tally(seen=2, resealed=1, missed=1)
    assert await store.credential(1) == renewed
    assert (await sealing.run(quiet)).resealed == 1
    assert await users.Users(database, credentials.Vault((NEW,))).credential(1) == renewed


async def test_a_lock_holds_when_its_pair_is_sealed_anew(database: database.Database) -> None:
    """A renewal in flight stores its pair as usual."""
    await put(database, OLD, 1)
    store = credentials.Credentials(database, credentials.Vault((OLD, NEW)))
    held = await store.get(1)
    version = await store.lock(1, version=held.version, now=0.0, until=10.0)
    assert version is not None

    await rotating(database).run(quiet)

    assert await store.store_renewed(
        1, version=version, credential=values.credential(access_token="renewed"), proven=True
    )
    assert (await store.get(1)).credential.access_token == "renewed"


async def test_a_pair_stays_as_it_is_when_no_key_opens_it(database: database.Database) -> None:
    """It is counted, and opens again when its key is back."""
    await put(database, OLD, 1, 3)
    await put(database, LOST, 2)

    tally = await rotating(database).run(quiet)

    assert tally == key_rotation.Tally(seen=3, resealed=2, unreadable=1)
    assert await users.Users(database, credentials.Vault((LOST,))).credential(2) == pair(2)


async def test_progress_is_reported_when_a_batch_is_done(database: database.Database) -> None:
    """In bounded steps, as many as there are batches."""
    await put(database, OLD, *range(1, 6))
    seen: list[int] = []

    await rotating(database).run(lambda tally: seen.append(tally.seen))

    assert seen == [2, 4, 5] * 2
    assert await rotating(database).count() == 5


@pytest.fixture
def command(database: database.Database, mongodb_url: str) -> dict[str, str]:
    """The environment in which an operator rotates, the new key in front."""
    return {
        "PATH": os.environ["PATH"],  # noqa: TID251 -- for a program that is started
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": database.name,
        "INDEXER_CREDENTIAL_KEYS": f"{SECRETS[1]},{SECRETS[0]}",
    }


PROGRAM_BELOW = [sys.executable, "-m", "indexer_service", "keys", "rotate"]
"""What the command runs; killing the command alone would leave it running."""
PROGRAM = [str(pathlib.Path(sys.executable).with_name("indexer")), "keys", "rotate"]


async def rotated(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the operator's command to its end."""
    more = {"env": environment, "capture_output": True, "text": True, "timeout": 60}
    return await asyncio.to_thread(functools.partial(subprocess.run, PROGRAM, check=False, **more))


def killed_half_way(environment: dict[str, str]) -> int:
    """Run the command until it has sealed something, and kill it; returns how much that was."""
    where = environment["MONGODB_URL"], environment["MONGODB_DATABASE"]
    with subprocess.Popen(PROGRAM_BELOW, env=environment) as process:
        while not (done := _sealed_anew(*where)) and process.poll() is None:
            pass
        process.kill()
    return done


def _keys_of(text: str) -> tuple[bytes, ...]:
    return settings.SecretSettings(credential_keys=text).keys


def _sealed_anew(url: str, name: str) -> int:
    (first,) = _keys_of(SECRETS[1])
    safe = credentials.Vault((first,))
    with pymongo.MongoClient[dict[str, bytes]](url) as client:
        return sum(safe.is_newest(row["credential"]) for row in client[name]["users"].find({}, {"credential": 1}))


async def test_everything_is_sealed_anew_when_a_killed_command_is_started_again(
    database: database.Database, mongodb_url: str, command: dict[str, str]
) -> None:
    """It goes on with what is left, says how many that were, and shows neither key nor token."""
    total = 3_000
    (old,), (new,) = _keys_of(SECRETS[0]), _keys_of(SECRETS[1])
    safe = credentials.Vault((old,))
    rows = [
        {"_id": user_id} | credentials.sealed(safe, user_id, pair(user_id), proven=True) for user_id in range(total)
    ]
    await database["users"].insert_many(rows)

    done = await asyncio.to_thread(killed_half_way, command)
    second = await rotated(command)

    left = total - _first_number(second.stdout)
    assert 0 < done <= left < total
    assert (second.returncode, second.stderr) == (0, "")
    assert f"{total} of {total} have the first key" in second.stdout
    assert _sealed_anew(mongodb_url, database.name) == total
    assert await users.Users(database, credentials.Vault((new,))).credential(total - 1) == pair(total - 1)
    assert not any(secret in second.stdout for secret in (*SECRETS, "access ", "refresh "))


def _first_number(text: str) -> int:
    return int(text.partition(" ")[0])


async def test_the_command_fails_when_a_key_is_missing(database: database.Database, command: dict[str, str]) -> None:
    """The exit code says so too; the other keys must stay."""
    await put(database, LOST, 1)

    ran = await rotated(command)

    assert ran.returncode == 1
    assert ran.stderr.startswith("1 of 1 credentials have none of the keys in INDEXER_CREDENTIAL_KEYS")
    assert "can be removed" not in ran.stdout


async def test_the_command_names_the_variable_when_there_is_no_key() -> None:
    """By name, and without a trace."""
    ran = await rotated({})

    assert (ran.returncode, ran.stderr) == (2, "INDEXER_CREDENTIAL_KEYS: must be set\n")


async def test_values_of_both_kinds_are_read_when_keys_are_separated(database: database.Database) -> None:
    """Before, during and after the change of the setting; a rotation leaves the derived key alone."""
    shared, separate = (
        settings.SecretSettings(credential_keys=SECRETS[0], separate_keys=on).keys_for("credentials")
        for on in (False, True)
    )
    before = users.Users(database, credentials.Vault(shared))
    after = users.Users(database, credentials.Vault(separate))
    await before.put_credential(1, pair(1))
    await after.put_credential(2, pair(2))

    read = [await store.credential(user_id) for store in (before, after) for user_id in (1, 2)]
    tally = await key_rotation.Rotation(database, credentials.Vault(separate)).run(quiet)

    assert read == [pair(1), pair(2)] * 2
    assert (tally.resealed, tally.unreadable) == (1, 0)
    alone = users.Users(database, credentials.Vault(separate[:1]))
    assert [await alone.credential(user_id) for user_id in (1, 2)] == [pair(1), pair(2)]


async def test_an_unproven_pair_is_sealed_anew_as_well(database: database.Database) -> None:
    """Beside the pair in use, and alone."""
    await put(database, OLD, 1)
    for user_id in (1, 2):
        await users.Users(database, credentials.Vault((OLD,))).put_unproven(user_id, pair(user_id + 10))

    tally = await rotating(database).run(quiet)

    alone = credentials.Credentials(database, credentials.Vault((NEW,)), slot=credentials.UNPROVEN)
    assert (tally.seen, tally.resealed) == (3, 3)
    assert [(await alone.get(user_id)).credential for user_id in (1, 2)] == [pair(11), pair(12)]
