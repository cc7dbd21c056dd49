"""The code of the previous release, from the history of this checkout."""

import io
import pathlib
import subprocess
import tarfile

CHECKOUT = pathlib.Path(__file__).parents[1]
BASELINE = "e59320f45899ac29cfc0f80ea387933a125b0042"
"""The commit that stands for the previous release until the first tag `v*` exists: the last one with the old layout."""


class NotAvailable(Exception):
    """The checkout has no history."""


def unpack(folder: pathlib.Path, *paths: str) -> None:
    """Unpack paths of the newest release tag before this commit, or of the baseline. Raises NotAvailable."""
    tags = _git("tag", "--merged", "HEAD^", "--sort=-version:refname", "--list", "v*").decode().split()
    packed = _git("archive", tags[0] if tags else BASELINE, *paths)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=CHECKOUT, check=False, capture_output=True, timeout=30)
    if done.returncode:
        raise NotAvailable(f"the previous release is not available: git {arguments[0]} fails")
    return done.stdout
