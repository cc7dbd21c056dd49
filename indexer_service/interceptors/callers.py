"""
Who may call: one line a token, with its hash, what it opens, and how many requests its caller may make.

    # caller  sha256 of the token  scopes  requests/seconds
    shop      9f86d081…            index,read,credentials  100/1

A caller may have two lines, so that it can move from one token to the next. Its rate is one: it belongs to the name.
"""

import dataclasses
import enum
import math
import re
from collections.abc import Mapping
from typing import TypeAlias

import pydantic

from indexer_service import file_watch
from indexing import settings

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
FIELDS = 4
ROUNDING = 1e-6
"""Seconds by which a request may come too early."""
RATES: pydantic.TypeAdapter[settings.Rate] = pydantic.TypeAdapter(settings.RateField)


class Scope(enum.StrEnum):
    """What a token opens; none contains another."""

    INDEX = "index"
    READ = "read"
    CREDENTIALS = "credentials"
    ADMIN = "admin"


class Bucket:
    """The requests of one caller: `capacity` at once, and `capacity` in each `window` in the long run."""

    def __init__(self, rate: settings.Rate) -> None:
        self.rate = rate
        self._each = rate.window / rate.capacity
        self._full = -math.inf

    def take(self, now: float) -> float:
        """Take one at *now*; returns 0, or the seconds until there is one, in which case nothing was taken."""
        full = max(now, self._full) + self._each
        wait = full - now - self.rate.window
        # A sum of a thousand shares is not exactly the window.
        if wait > ROUNDING:
            return wait
        self._full = full
        return 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """One token, by its hash, and whose it is."""

    name: str
    digest: bytes = dataclasses.field(repr=False)
    scopes: frozenset[Scope]
    bucket: Bucket = dataclasses.field(repr=False, compare=False)


Table: TypeAlias = "dict[bytes, Caller]"
"""Callers by the hash of their token."""


def read(content: bytes, before: Mapping[bytes, Caller]) -> Table:
    """
    Return the callers of a file; whoever was there *before* with the same rate goes on with what he has used.

    Raises:
        reloaded.Unacceptable: With the number of the line, and nothing of what stands there.
    """
    buckets = {caller.name: caller.bucket for caller in before.values()}
    found: Table = {}
    rates: dict[str, settings.Rate] = {}
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), start=1):
        fields = line.split("#", 1)[0].split()
        if not fields:
            continue
        try:
            caller = _caller(fields, buckets)
            if caller.digest in found:
                raise ValueError("the same token stands above")  # noqa: TRY301 -- one place tells the line
            if rates.setdefault(caller.name, caller.bucket.rate) != caller.bucket.rate:
                raise ValueError("the same caller has another rate above")  # noqa: TRY301 -- as above
        except ValueError as error:
            raise file_watch.Unacceptable(f"INDEXER_SERVICE_TOKENS_FILE: line {number}: {_said(error)}") from None
        found[caller.digest] = caller
    if not found:
        raise file_watch.Unacceptable("INDEXER_SERVICE_TOKENS_FILE: names no caller")
    return found


def _caller(fields: list[str], buckets: dict[str, Bucket]) -> Caller:
    if len(fields) != FIELDS:
        raise ValueError("must be: caller, sha256 of the token, scopes, requests/seconds")
    name, digest, scopes, rate_text = fields
    if not NAME.fullmatch(name):
        raise ValueError("a caller's name has 1 to 64 of a-z, 0-9, dot, dash and underscore")
    if not DIGEST.fullmatch(digest):
        raise ValueError("the hash must be 64 hexadecimal digits; never write the token itself here")
    if not set(scopes.split(",")) <= {*Scope}:
        raise ValueError(f"scopes are some of {','.join(Scope)}")
    rate = RATES.validate_python(rate_text)
    if name not in buckets or buckets[name].rate != rate:
        buckets[name] = Bucket(rate)
    return Caller(name, bytes.fromhex(digest), frozenset(map(Scope, scopes.split(","))), buckets[name])


def _said(error: ValueError) -> str:
    """Return the rule that is broken; pydantic's text would repeat the input."""
    return (
        "the rate must look like 100/1 (requests/seconds)"
        if isinstance(error, pydantic.ValidationError)
        else str(error)
    )
