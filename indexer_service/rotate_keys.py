"""`python -m indexer_service keys rotate`: encrypts every stored credential again with the first key of the ring."""

import sys

from rich import console, progress

from indexing import settings
from indexing.store import credentials, database, key_rotation


async def rotate_keys(config: settings.KeysConfig) -> int:
    """
    Encrypt every credential with the first key, with a progress bar on a terminal.

    Returns the exit code: 1 when a credential could not be decrypted, or still has another key.

    Raises:
        errors.StoreUnavailable: Run it again; it continues with what is left.
    """
    async with database.open_database(config.mongo) as opened:
        rotation = key_rotation.Rotation(opened, credentials.Vault(config.secrets.keys_for("credentials")))
        terminal = console.Console(stderr=True, markup=False, highlight=False)
        with progress.Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
            task = bar.add_task("encrypting credentials", total=await rotation.count())
            tally = await rotation.run(lambda done: bar.update(task, completed=done.seen))
    _print_result(tally)
    return 1 if tally.unreadable or tally.missed else 0


def _print_result(tally: key_rotation.Tally) -> None:
    current = tally.seen - tally.unreadable
    sys.stdout.write(f"{tally.resealed} credentials encrypted again; {current} of {tally.seen} have the first key\n")
    if tally.unreadable:
        sys.stderr.write(
            f"{tally.unreadable} of {tally.seen} credentials have none of the keys in INDEXER_CREDENTIAL_KEYS "
            "and are unchanged: add the missing key, or let these users log in again\n"
        )
    elif tally.missed:
        sys.stderr.write("some credentials still have an older key: give all processes the new key first in the list\n")
    else:
        sys.stdout.write("the other keys can be removed from INDEXER_CREDENTIAL_KEYS\n")
