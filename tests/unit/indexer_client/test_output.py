"""What commands print: YAML, tables on narrow terminals, the pager."""

import io
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from indexer_client.cli import output
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]
HEADINGS = ["guild", "~name", "?>channels", "?indexed", "?~note"]
ROW = ("806171784905752576", "A guild with a long name", "1503", "2026-11-29 10:30", "not installed, owner")


class Screen(io.StringIO):
    """Standard output that counts as a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Screen:
    """Make standard output a terminal without a pager; a test calls it, because pytest changes it after fixtures."""
    made = Screen()
    monkeypatch.setattr(sys, "stdout", made)
    for name, value in {"TERM": "xterm", "PAGER": "cat", "COLUMNS": "80", "LINES": "10", **environment}.items():
        monkeypatch.setenv(name, value)
    return made


def test_a_message_is_a_yaml_document_when_yaml_is_asked_for(server: service.FakeService, indexer: Indexer) -> None:
    """Block style; texts are quoted, so that no name becomes a number or a comment."""
    preferences = pb.Preferences(pinned_guild_ids=["7", "8"])
    server.add_response("GetPreferences", pb.GetPreferencesResponse(preferences=preferences))
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(name="# no: 1"), pb.Guild(name="b")]))

    shown = indexer("preferences", "show", rows.USER, "--output", "yaml").out
    listed = indexer("guilds", rows.USER, "-o", "yaml").out

    assert shown == '---\npinned_guild_ids:\n- "7"\n- "8"\nmuted_guild_ids: []\n'
    assert listed.count("---\n") == 2
    assert '\nname: "# no: 1"\n' in listed


def test_rows_of_messages_are_nested_when_they_are_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    """A list of messages begins each with a dash."""
    row = pb.ListJobsResponse(jobs=[pb.Job(job_id="a", user_id="1"), pb.Job(job_id="b")])

    output.print_message(row, output.Form.YAML)

    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["---", "jobs:", '- job_id: "a"', '  user_id: "1"']
    assert '- job_id: "b"' in lines


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        pytest.param(120, ["guild", "name", "channels", "indexed", "note"], id="all"),
        pytest.param(80, ["guild", "name", "channels", "indexed", "note"], id="cut"),
        pytest.param(60, ["guild", "name", "channels", "indexed"], id="without the note"),
        pytest.param(40, ["guild", "name", "channels"], id="without the time"),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(monkeypatch: pytest.MonkeyPatch, width: int, expected: list[str]) -> None:
    """Ids and times are whole or absent, and some of each name stays."""
    screen = on_terminal(monkeypatch, COLUMNS=str(width), NO_COLOR="1", TERM="dumb")

    output.print_table(HEADINGS, [ROW, ROW])

    head, line, _ = screen.getvalue().splitlines()
    assert head.split() == expected
    assert max(len(head), len(line)) <= width
    assert ROW[0] in line
    assert "A gui" in line
    assert (ROW[3] in line) == ("indexed" in expected)


def test_a_long_table_goes_through_the_pager(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """PAGER names it, with its options; a short table needs none."""
    seen = tmp_path / "seen"
    screen = on_terminal(monkeypatch, PAGER=f"tee {seen}")

    output.print_table(HEADINGS, [ROW] * 5)
    short = seen.exists()
    output.print_table(HEADINGS, [ROW] * 30)

    assert not short
    assert len(seen.read_text().splitlines()) == 31
    assert len(screen.getvalue().splitlines()) == 6


def test_a_long_table_is_printed_when_there_is_no_such_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than nothing."""
    screen = on_terminal(monkeypatch, PAGER="/nonexistent/pager")

    output.print_table(HEADINGS, [ROW] * 30)

    assert len(screen.getvalue().splitlines()) == 31


def test_no_color_is_used_when_the_user_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR (no-color.org) turns colors off, also on a terminal that has them."""
    screen = on_terminal(monkeypatch, TERM="xterm-256color")

    output.make_console(sys.stdout).print("x", style="red")
    monkeypatch.setenv("NO_COLOR", "1")
    output.make_console(sys.stdout).print("y", style="red")

    assert "\x1b[31mx" in screen.getvalue()
    assert "\x1b[31m" not in screen.getvalue().splitlines()[1]


def test_the_shell_completes_commands(indexer: Indexer) -> None:
    """With the script that `indexer completion` prints."""
    script = indexer("completion", "bash").out
    asked = {**os.environ, "_INDEXER_COMPLETE": "complete_bash", "COMP_WORDS": "indexer jo", "COMP_CWORD": "1"}  # noqa: TID251 -- what a shell passes on

    found = subprocess.run(
        [sys.executable, "-m", "indexer_client.cli"], env=asked, capture_output=True, text=True, check=False
    )

    assert "_INDEXER_COMPLETE=complete_bash" in script
    assert found.stdout.split() == ["job", "jobs"]
