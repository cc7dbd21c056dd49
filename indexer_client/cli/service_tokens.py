"""`indexer token new`: a token for a caller of the service, and the line that lets it in; no server is asked."""

import enum
import hashlib
import os
import pathlib
import re
import secrets
from collections.abc import Sequence

from indexer_client.cli import errors, output

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RATE = re.compile(r"[1-9]\d{0,4}/[1-9]\d{0,3}")
PREFIX = "idx_"
"""What our tokens begin with, so that programs that look for lost secrets can find them."""
BYTES = 32


class Scope(enum.StrEnum):
    """What a token opens."""

    INDEX = "index"
    READ = "read"
    CREDENTIALS = "credentials"
    ADMIN = "admin"


def new(name: str, scopes: Sequence[Scope], rate: str, keep: pathlib.Path | None) -> int:
    """
    Make a token: its line goes to standard output, the token itself to a file of its own or to standard error.

    So the output can be added to the file of tokens, in which no token may stand.

    Raises:
        problems.Problem: A name, a rate or the file cannot be accepted; nothing was made.
    """
    if not NAME.fullmatch(name):
        raise errors.Problem("NAME: 1 to 64 of a-z, 0-9, dot, dash and underscore", errors.USAGE)
    if not RATE.fullmatch(rate):
        raise errors.Problem("--rate: must look like 100/1 (requests/seconds)", errors.USAGE)
    if not scopes:
        raise errors.Problem(f"--scope: name what it opens, some of {', '.join(Scope)}", errors.USAGE)
    token = PREFIX + secrets.token_urlsafe(BYTES)
    if keep is not None:
        _write(keep, token)
    digest = hashlib.sha256(token.encode()).hexdigest()
    output.line(f"{name} {digest} {','.join(dict.fromkeys(scopes))} {rate}")
    if keep is None:
        output.warn(f"the token of {name}, shown this once: {token}")
    return 0


def _write(path: pathlib.Path, token: str) -> None:
    try:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(token + "\n")
    except OSError as error:
        raise errors.Problem(f"--out: {path} cannot be written ({error.strerror})", errors.USAGE) from error
