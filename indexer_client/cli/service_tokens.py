"""`indexer token new`: create a service token and its line for the tokens file, without calling the service."""

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
"""Prefix of every service token, by which secret scanners recognize them."""
BYTES = 32


class Scope(enum.StrEnum):
    """Scope of a service token."""

    INDEX = "index"
    READ = "read"
    CREDENTIALS = "credentials"
    ADMIN = "admin"


def create_token(name: str, scopes: Sequence[Scope], rate: str, token_file: pathlib.Path | None) -> int:
    """
    Create a token: print its line to standard output, and the token itself to *token_file* or standard error.

    Standard output can be appended to the tokens file, which holds hashes only.

    Raises:
        errors.CliError: The name, the rate or the file is invalid; no token was created.
    """
    if not NAME.fullmatch(name):
        raise errors.CliError("NAME: must be 1 to 64 of a-z, 0-9, dot, dash and underscore", errors.EXIT_USAGE)
    if not RATE.fullmatch(rate):
        raise errors.CliError("--rate: must look like 100/1 (requests/seconds)", errors.EXIT_USAGE)
    if not scopes:
        raise errors.CliError(f"--scope: needs at least one of {', '.join(Scope)}", errors.EXIT_USAGE)
    token = PREFIX + secrets.token_urlsafe(BYTES)
    if token_file is not None:
        _write_token(token_file, token)
    digest = hashlib.sha256(token.encode()).hexdigest()
    output.print_line(f"{name} {digest} {','.join(dict.fromkeys(scopes))} {rate}")
    if token_file is None:
        output.print_error(f"token of {name}, shown only once: {token}")
    return 0


def _write_token(path: pathlib.Path, token: str) -> None:
    try:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(token + "\n")
    except OSError as error:
        raise errors.CliError(f"--out: {path} cannot be written ({error.strerror})", errors.EXIT_USAGE) from error
