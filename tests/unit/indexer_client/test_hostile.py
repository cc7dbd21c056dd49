"""
No response can move the cursor, color the screen, or reverse a line.

Every text in every response is hostile, including ids and constants, and including fields that are added later.
"""

import io
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from rich import console

from indexer_client.cli import commands, escape, formatting, job_state, limits, rendering
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]
CONTROLS = [
    *("\x1b", "\x9b", "\x07", "\x08", "\r", "\n", "\x0b", "\x7f", "\x85", "\0"),
    *("\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u206a", "\ufff9"),
]
HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b1A\r\n\u202egnp.exe\u2066\u200f\u061c\0[bold]" + "".join(CONTROLS) + "z"
STRUCTURE = {"\n", "\t"}
"""Separators of lines and columns in plain output."""
COMMANDS = {
    "index": ("index", rows.USER),
    "job": ("job", rows.JOB),
    "guilds": ("guilds", rows.USER),
    "channels": ("channels", rows.USER),
    "limits": ("limits",),
    "credential put": ("credential", "put", rows.USER),
    "credential status": ("credential", "status", rows.USER),
    "credential revoke": ("credential", "revoke", rows.USER),
    "erase": ("erase", rows.USER, "--yes"),
    "watch": ("watch", rows.USER),
    "jobs list": ("jobs", "list", rows.USER),
    "jobs show": ("jobs", "show", rows.JOB),
    "jobs watch": ("jobs", "watch", rows.JOB),
    "jobs wait": ("jobs", "wait", rows.JOB),
    "jobs cancel": ("jobs", "cancel", rows.JOB),
    "jobs retry": ("jobs", "retry", rows.JOB),
    "guild": ("guild", rows.USER, "9"),
    "channel": ("channel", rows.USER, "5"),
    "check": ("check", rows.USER, "5", "6"),
    "search": ("search", rows.USER, "five"),
    "preferences show": ("preferences", "show", rows.USER),
    "preferences set": ("preferences", "set", rows.USER, "--pin", "9"),
}

OFFLINE = {
    "settings",
    "token new",
    "keys rotate",
    "completion",
    "context set",
    "context use",
    "context list",
    "context delete",
}
"""Commands that do not call the service."""


def hostile(descriptor: Any) -> Any:  # noqa: ANN401 -- any message
    """Return a message with hostile texts only, and one entry in every list."""
    made: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        inner = field.message_type
        target = getattr(made, field.name)
        if inner is not None and inner.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
            target.seconds = rows.NOON.seconds
        elif inner is not None and inner.GetOptions().map_entry:
            if inner.fields_by_name["value"].message_type is None:
                target[HOSTILE] = 1
        elif inner is not None and not inner.GetOptions().map_entry and field.containing_oneof is None:
            target.extend([hostile(inner)]) if field.is_repeated else target.CopyFrom(hostile(inner))
        elif field.type == field.TYPE_STRING and field.name != "next_page_token":
            target.extend([HOSTILE]) if field.is_repeated else setattr(made, field.name, HOSTILE)
    return made


@pytest.fixture
def server(server: service.FakeService) -> service.FakeService:
    """A service with hostile texts in every response."""
    for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods:
        if not method.server_streaming:
            server.add_response(method.name, hostile(method.output_type))
    row = hostile(pb.JobGuild.DESCRIPTOR)
    states = [*pb.GuildState.values()]
    events = [rows.changed(_with(row, state=state, guild_id=f"{HOSTILE}{state}")) for state in states]
    job = _with(hostile(pb.Job.DESCRIPTOR), state=pb.JOB_STATE_RUNNING)
    failed = _with(job, state=pb.JOB_STATE_FAILED)
    server.add_response("WatchProgress", rows.moved(job), *events, rows.ended(failed))
    change = hostile(pb.GuildChange.DESCRIPTOR)
    replaced = [_with(change, guild_id="2", replace=True), _with(change, guild_id="2", removed=True)]
    messages = [pb.WatchIndexResponse(change=each) for each in (change, *replaced)]
    refused = service.Refusal(grpc.StatusCode.NOT_FOUND, HOSTILE)
    server.add_response("WatchIndex", pb.WatchIndexResponse(bookmark=pb.Bookmark()), *messages, refused)
    return server


def _with(row: Any, **changes: Any) -> Any:  # noqa: ANN401 -- any message and its fields
    made = type(row)()
    made.CopyFrom(row)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def controls(text: str) -> set[str]:
    """Return the characters of *text* that could move the cursor or reorder a line."""
    return {character for character in text if character in CONTROLS or ord(character) < 32} - STRUCTURE


def test_every_command_is_covered_by_the_table() -> None:
    """A new command needs an entry in COMMANDS or OFFLINE."""
    named = {info.name or info.callback.__name__ for info in commands.app.registered_commands if info.callback}
    groups = {
        f"{group.name} {info.name or info.callback.__name__}"
        for group in commands.app.registered_groups
        if group.typer_instance
        for info in group.typer_instance.registered_commands
        if info.callback
    }

    assert (named | groups) - OFFLINE == set(COMMANDS)


@pytest.mark.parametrize("name", [*COMMANDS, *sorted(OFFLINE), "jobs", "credential", "preferences", "token", "keys"])
def test_every_help_has_an_example(indexer: Indexer, name: str) -> None:
    """A line that can be copied."""
    shown = " ".join(indexer(*name.split(), "--help").out.split())

    _, _, example = shown.partition("Example: indexer ")
    assert name in example


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("more", [(), ("--json",), ("--output", "yaml")], ids=["for-people", "json", "yaml"])
def test_nothing_moves_the_cursor_when_every_answer_is_hostile(
    indexer: Indexer, monkeypatch: pytest.MonkeyPatch, name: str, more: tuple[str, ...]
) -> None:
    """This holds for standard output and standard error."""
    monkeypatch.setattr("sys.stdin", io.StringIO("a-token\n"))

    ran = indexer(*COMMANDS[name], *more)

    assert controls(ran.out + ran.err) == set()
    assert ran.json if "--json" in more else ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_moves_the_cursor_when_the_refusal_is_hostile(
    server: service.FakeService, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its message, reason and fields are escaped."""
    monkeypatch.setattr("sys.stdin", io.StringIO("a-token\n"))
    violation = error_details_pb2.BadRequest.FieldViolation(field=HOSTILE, description=HOSTILE)
    details = [
        error_details_pb2.ErrorInfo(reason=HOSTILE, domain=HOSTILE),
        error_details_pb2.BadRequest(field_violations=[violation]),
    ]
    for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL):
        server.scripts.clear()
        for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods:
            server.add_response(method.name, service.Refusal(code, "z" + HOSTILE, *details))
        ran = indexer(*COMMANDS[name])

        assert controls(ran.out + ran.err) == set()
        assert ran.code


def test_nothing_moves_the_cursor_when_a_live_display_is_drawn() -> None:
    """The live displays of a job and of the budgets escape their texts."""
    seen = job_state.TrackedJob()
    seen.apply_start(hostile(pb.StartIndexingResponse.DESCRIPTOR))
    seen.job.state = pb.JOB_STATE_RUNNING
    budgets = limits.LimitsDisplay()
    budgets.budgets = [hostile(pb.Budget.DESCRIPTOR)]
    screen = console.Console(file=io.StringIO(), width=200, color_system=None, force_terminal=False, markup=False)

    for display in (rendering.JobDisplay(seen, lambda: 1.0), budgets, formatting.job_summary(seen, 1.0)):
        screen.print(display)

    assert isinstance(screen.file, io.StringIO)
    assert controls(screen.file.getvalue()) == set()


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_a_control_character_is_escaped_when_a_name_contains_it(control: str) -> None:
    """Escaping is idempotent."""
    found = escape.visible(f"a{control}b")

    assert found.startswith("a\\")
    assert found.isascii()
    assert escape.visible(found) == found


def test_a_name_is_unchanged_when_it_has_other_scripts_or_emoji() -> None:
    """Letters of other scripts and joined emoji are safe."""
    for name in ("größe", "שלום", "日本語", "👩\u200d💻", "🏳️\u200d🌈"):
        assert escape.visible(name) == name
