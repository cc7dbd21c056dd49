"""Contexts: services by name, in a file of the user's own."""

import pathlib
import stat
from collections.abc import Callable

import pytest

from indexer_client.cli import connection, contexts, main
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Run = Callable[..., conftest.Ran]


@pytest.fixture(autouse=True)
def _folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep contexts in a folder of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command without an address."""

    def run_it(*arguments: str) -> conftest.Ran:
        code = main.run_command(arguments, connection.Patience(calls=0.0))
        captured = capsys.readouterr()
        return conftest.Ran(code, captured.out, captured.err)

    return run_it


def test_a_stored_context_is_used_when_no_address_is_given(server: service.FakeService, run: Run) -> None:
    """The first one at once, another one after `use`, or for one command."""
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="5", name="five")]))

    assert run("--address", server.address, "context", "set", "here").out == f"stored here: {server.address}, in use\n"
    assert run("--address", "127.0.0.1:1", "context", "set", "nowhere").out == "stored nowhere: 127.0.0.1:1\n"
    assert run("guilds", rows.USER).out.startswith("5\tfive")
    assert run("--context", "nowhere", "guilds", rows.USER).code == 1
    assert run("context", "use", "nowhere").out == "using nowhere: 127.0.0.1:1\n"
    assert run("guilds", rows.USER).code == 1
    assert run("--address", server.address, "guilds", rows.USER).code == 0
    assert run("context", "list").out == f"here\t\t{server.address}\tno\t\nnowhere\t*\t127.0.0.1:1\tno\t\n"
    here, nowhere = run("context", "list", "--json").json
    assert (here["name"], here["used"], nowhere["used"], nowhere["address"]) == ("here", False, True, "127.0.0.1:1")
    assert run("context", "delete", "nowhere").out == "deleted nowhere\n"
    assert run("context", "list").out == f"here\t\t{server.address}\tno\t\n"


def test_what_is_not_given_stays_when_a_context_is_set_again(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths become absolute, so that the context works in any folder."""
    monkeypatch.chdir(tmp_path)
    run("--address", "a.example:1", "--token-file", "shop.token", "context", "set", "shop")
    run("--tls", "context", "set", "shop")

    assert contexts.find("shop") == contexts.Context("a.example:1", tls=True, token_file=str(tmp_path / "shop.token"))


def test_only_the_owner_reads_the_file_and_it_has_no_token(run: Run, tmp_path: pathlib.Path) -> None:
    """Only the path of the token's file."""
    token = tmp_path / "shop.token"
    token.write_text("idx_secret")

    run("--token-file", str(token), "context", "set", "shop")

    assert stat.S_IMODE(contexts.path().stat().st_mode) == 0o600
    assert "idx_secret" not in contexts.path().read_text()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(None, "indexer: no context 'shop'; known: none is stored", id="absent"),
        pytest.param("{", "indexer: ", id="not JSON"),
        pytest.param('{"contexts": {"shop": {"colour": 1}}, "current": ""}', "indexer: ", id="unknown field"),
    ],
)
def test_one_line_says_what_is_wrong_when_a_context_cannot_be_used(
    run: Run, content: str | None, expected: str
) -> None:
    """With exit code 2."""
    if content is not None:
        contexts.path().parent.mkdir()
        contexts.path().write_text(content)

    ran = run("--context", "shop", "guilds", rows.USER)

    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert ran.err.startswith(expected)
