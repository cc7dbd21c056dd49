"""The form of log lines, for machines and for people."""

import ast
import asyncio
import json
import logging
import pathlib
import re
from collections.abc import Iterator

import pytest
import structlog

from indexing.telemetry import logs

PRODUCT = ("indexing", "indexer_service", "workers")
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Restore logging for the tests after these."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_json_with_bound_fields_when_the_format_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Event, fields, level, time, and the fields of the current context."""
    logs.configure("info", "json")

    with logs.bound(job="j", user="u"):
        logs.get("x").info("thing_happened", guild=7)

    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "thing_happened", "guild": 7, "job": "j", "level": "info", "user": "u"}


def test_a_line_of_a_library_has_the_same_form_when_it_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """With the same fields, so that one parser reads all lines."""
    logs.configure("info", "json")

    with logs.bound(request_id="r"):
        logging.getLogger("dramatiq").warning("%d messages", 3)

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["request_id"]) == ("3 messages", "warning", "r")


def test_a_line_starts_with_its_event_when_the_format_is_console(capsys: pytest.CaptureFixture[str]) -> None:
    """One line: the event first, fields after it."""
    logs.configure("info", "console")

    logs.get("x").info("thing_happened", guild=7)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)
    assert re.match(r"\S+ \[info\s*\] thing_happened\s+guild=7\n$", plain)


async def test_tasks_have_their_own_fields_when_they_run_concurrently() -> None:
    """Fields bound in one task are not visible in another."""
    seen: dict[str, str] = {}

    async def work(guild: str) -> None:
        with logs.bound(guild=guild):
            await asyncio.sleep(0)
            seen[guild] = logs.field("guild")

    with logs.bound(job="j"):
        await asyncio.gather(work("1"), work("2"))

    assert seen == {"1": "1", "2": "2"}
    assert logs.field("guild") == ""


def test_events_have_constant_names_when_they_are_logged() -> None:
    """A search for a name finds all of its lines; variable data are fields."""
    calls = re.compile(r"\b_?log\.(?:debug|info|warning|error|exception)$")
    events = [
        (path.name, node.args[0])
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and calls.search(ast.unparse(node.func))
    ]

    assert len(events) > 10
    for name, event in events:
        assert isinstance(event, ast.Constant), (name, ast.unparse(event))
        assert re.fullmatch(r"[a-z][a-z_]+", str(event.value)), (name, event.value)
