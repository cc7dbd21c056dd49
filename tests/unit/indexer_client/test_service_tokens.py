"""`indexer token new` creates service tokens."""

import hashlib
import pathlib
import stat
from collections.abc import Callable

import pytest

from indexer_client.cli import service_tokens
from indexer_service.interceptors import auth
from tests.unit.indexer_client import conftest

Indexer = Callable[..., conftest.Ran]


def test_the_service_accepts_the_token_when_its_line_is_in_the_file(indexer: Indexer) -> None:
    """The service parses the printed line, which holds the token's hash only."""
    ran = indexer("token", "new", "shop", "--scope", "index", "--scope", "read", "--rate", "250/10")

    token = ran.err.rstrip("\n").rpartition(" ")[2]
    (known,) = auth.parse_tokens(ran.out.encode(), {}).values()
    assert ran.code == 0
    assert token not in ran.out
    assert ran.err.count(token) == 1
    assert known.digest == hashlib.sha256(token.encode()).digest()
    assert (known.caller, sorted(known.scopes), str(known.bucket.rate)) == ("shop", ["index", "read"], "250/10")


def test_tokens_differ_when_several_are_created(indexer: Indexer) -> None:
    """A token has 256 random bits and the prefix `idx_`."""
    tokens = {indexer("token", "new", "shop", "--scope", "read").err.split()[-1] for _ in range(20)}

    assert len(tokens) == 20
    assert {(token[:4], len(token)) for token in tokens} == {("idx_", 47)}


def test_only_its_owner_can_read_a_token_when_it_is_written_to_a_file(indexer: Indexer, tmp_path: pathlib.Path) -> None:
    """The token is not printed, and an existing file is not overwritten."""
    file = tmp_path / "shop.token"
    arguments = ("token", "new", "shop", "--scope", "admin", "--out", str(file))

    ran = indexer(*arguments)
    again = indexer(*arguments)

    token = file.read_text().strip()
    assert (ran.code, ran.err) == (0, "")
    assert hashlib.sha256(token.encode()).hexdigest() in ran.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (again.code, again.out) == (2, "")
    assert again.err == f"indexer: --out: {file} cannot be written (File exists)\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["Shop", "--scope", "read"], "NAME: must be 1 to 64 of a-z", id="name"),
        pytest.param(["shop"], "--scope: needs at least one of index, read, credentials, admin", id="no-scope"),
        pytest.param(["shop", "--scope", "all"], "--scope", id="scope"),
        pytest.param(["shop", "--scope", "read", "--rate", "often"], "--rate: must look like 100/1", id="rate"),
        pytest.param(["shop", "--scope", "read", "--rate", "0/1"], "--rate: must look like 100/1", id="nothing"),
    ],
)
def test_no_token_is_created_when_an_argument_is_invalid(indexer: Indexer, arguments: list[str], expected: str) -> None:
    """The error names the argument."""
    ran = indexer("token", "new", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert expected in ran.err
    assert service_tokens.PREFIX not in ran.err


def test_scopes_and_names_are_the_services() -> None:
    """The command line must not import the service, so it repeats their definitions."""
    assert [*service_tokens.Scope] == [*map(str, auth.Scope)]
    assert service_tokens.NAME == auth.CALLER_NAME


@pytest.mark.parametrize("rate", ["1/1", "99999/9999", "7/60"])
def test_the_service_accepts_a_rate_when_the_command_line_does(indexer: Indexer, rate: str) -> None:
    """This holds for the smallest and the largest rate."""
    ran = indexer("token", "new", "a", "--scope", "read", "--rate", rate)

    assert ran.code == 0
    assert auth.parse_tokens(ran.out.encode(), {})
