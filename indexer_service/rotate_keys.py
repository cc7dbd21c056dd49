"""`python -m indexer_service keys rotate`: every stored credential is sealed anew with the first key of the ring."""

import sys

from rich import console, progress

from indexing import settings
from indexing.store import credentials, key_rotation
from indexing.store import database as store_database


async def rotate(config: settings.KeysConfig) -> int:
    """
    Seal everything anew, with a picture on a terminal; returns the exit code: 1 when something could not be opened.

    Raises:
        errors.StoreUnavailable: Starting again goes on with what is left.
    """
    async with store_database.open_database(config.mongo) as database:
        sealing = key_rotation.Rotation(database, credentials.Vault(config.secrets.keys))
        to = console.Console(stderr=True, markup=False, highlight=False)
        with progress.Progress(console=to, transient=True, disable=not to.is_terminal) as picture:
            task = picture.add_task("sealing credentials anew", total=await sealing.count())
            tally = await sealing.run(lambda done: picture.update(task, completed=done.seen))
    _tell(tally)
    return 1 if tally.unreadable or tally.missed else 0


def _tell(tally: key_rotation.Tally) -> None:
    good = tally.seen - tally.unreadable
    sys.stdout.write(f"{tally.resealed} credentials sealed anew; {good} of {tally.seen} have the first key\n")
    if tally.unreadable:
        sys.stderr.write(
            f"{tally.unreadable} are opened by no key in INDEXER_CREDENTIAL_KEYS and stay as they are: "
            "add the key that sealed them, or let these users log in again\n"
        )
    elif tally.missed:
        sys.stderr.write("some are still sealed by an older key: do all processes have the new one in front?\n")
    else:
        sys.stdout.write("the other keys can be taken out of INDEXER_CREDENTIAL_KEYS\n")
