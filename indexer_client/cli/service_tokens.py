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


def create_token(name: str, scopes: Sequence[Scope], rate: str, token_file: pathlib.Path | None) -> int:
    """
    Make a token: its line goes to standard output, the token itself to a file of its own or to standard error.

    So the output can be added to the file of tokens, in which no token may stand.

    Raises:
        errors.CliError: A name, a rate or the file cannot be accepted; nothing was made.
    """
    if not NAME.fullmatch(name):
        raise errors.CliError("NAME: 1 to 64 of a-z, 0-9, dot, dash and underscore", errors.EXIT_USAGE)
    if not RATE.fullmatch(rate):
        raise errors.CliError("--rate: must look like 100/1 (requests/seconds)", errors.EXIT_USAGE)
    if not scopes:
        raise errors.CliError(f"--scope: name what it opens, some of {', '.join(Scope)}", errors.EXIT_USAGE)
    token = PREFIX + secrets.token_urlsafe(BYTES)
    if token_file is not None:
        _write_token(token_file, token)
    digest = hashlib.sha256(token.encode()).hexdigest()
    output.print_line(f"{name} {digest} {','.join(dict.fromkeys(scopes))} {rate}")
    if token_file is None:
        output.print_error(f"the token of {name}, shown this once: {token}")
    return 0


def _write_token(path: pathlib.Path, token: str) -> None:
    try:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(token + "\n")
    except OSError as error:
        raise errors.CliError(f"--out: {path} cannot be written ({error.strerror})", errors.EXIT_USAGE) from error
