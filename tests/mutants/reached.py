"""
Which tests run which statements: a copy of the code that notes its statements, and the choice of tests for a mutation.

A mutation is noticed only by tests that run its statement, so only these are run, the quickest first. A statement that
runs when its module is imported belongs to no test: then all are chosen, first those that run anything of the file.
"""

import ast
import builtins
import json
import os
import pathlib
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pytest

OUT = "MUTANTS_REACHED"
"""Variable that names the file for the result."""
Reached: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By test: its `seconds`, and the `lines` of the statements that it runs by file."""
LUA_BY = {"identify": "identifies.py", "stops": "stops.py"}
"""The module that runs a script; the others are run by the limiter's store."""
LUA_FIRST = "/test_histories.py"
"""The tests that compare the whole state after each run of the limiter's script: they are tried first."""
NOTES = "reached_statements"
"""Set of `path:line` in builtins, which the noting code and the plugin share."""


def noting(name: str, text: str) -> str:
    """Return the code of a file that notes each statement of a function before it runs."""
    tree = ast.parse(text)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]:
        for node in ast.walk(function):
            for field in ("body", "orelse", "finalbody"):
                block = getattr(node, field, None)
                if isinstance(block, list) and block and isinstance(block[0], ast.stmt) and not _is_noted(block[0]):
                    setattr(node, field, [each for one in block for each in (_note(f"{name}:{one.lineno}"), one)])
    first = next(
        place
        for place, node in enumerate([*tree.body, ast.Pass()])
        if not isinstance(node, ast.Expr) and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    )
    shared = f"import builtins as _builtins; _noted = _builtins.__dict__.setdefault({NOTES!r}, set())"
    tree.body[first:first] = ast.parse(shared).body
    return ast.unparse(ast.fix_missing_locations(tree))


def _note(what: str) -> ast.stmt:
    return ast.parse(f"_noted.add({what!r})").body[0]


def _is_noted(statement: ast.stmt) -> bool:
    return ast.unparse(statement).startswith("_noted.add(")


class Notes:
    """The plugin: what each test runs, as `found`, and which tests failed."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.failed: set[str] = set()
        self._noted: set[str] = builtins.__dict__.setdefault(NOTES, set())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note one test with its fixtures."""
        self._noted.clear()
        began = time.perf_counter()
        try:
            return (yield)
        finally:
            lines: dict[str, list[int]] = {}
            for noted in list(self._noted):
                name, _, line = noted.rpartition(":")
                lines.setdefault(name, []).append(int(line))
            self.found[item.nodeid] = {"seconds": time.perf_counter() - began, "lines": lines}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure: a test that reads the code's text, for one, which is written in another way here."""
        if report.failed:
            self.failed.add(report.nodeid)

    def passed(self) -> dict[str, dict[str, Any]]:
        """Return what the tests run that passed."""
        return {name: each for name, each in self.found.items() if name not in self.failed}


def pytest_configure(config: pytest.Config) -> None:
    """Note what tests run when the plugin is loaded."""
    notes = Notes()
    config.pluginmanager.register(notes, "mutants-notes")

    def write() -> None:
        pathlib.Path(os.environ[OUT]).write_text(json.dumps(notes.passed()))  # noqa: TID251 -- ours

    config.add_cleanup(write)


def choose_tests(reached: Reached, path: pathlib.PurePath, line: int, text: str) -> list[str]:
    """Return the tests that run the statement on a line of a file of the checkout, the quickest first."""
    name = path.as_posix()
    if path.suffix == ".lua":
        runner = LUA_BY.get(path.stem, "redis_store.py")
        found = _quickest(reached, [test for test, each in reached.items() if _has(each["lines"], runner)])
        return sorted(found, key=lambda test: LUA_FIRST not in test)
    wanted = statement_lines(text, line)
    chosen = [test for test, each in reached.items() if not wanted.isdisjoint(each["lines"].get(name, ()))]
    if chosen:
        return _quickest(reached, chosen)
    others = [test for test, each in reached.items() if name not in each["lines"]]
    return [*_quickest(reached, reached.keys() - others), *_quickest(reached, others)]


def within(reached: Reached, tests: Sequence[str], seconds: float) -> tuple[list[str], float]:
    """Return the first of the tests that take no more than *seconds* together, at least one, and what they take."""
    chosen: list[str] = []
    total = 0.0
    for test in tests:
        more = float(reached[test]["seconds"])
        if chosen and total + more > seconds:
            break
        chosen.append(test)
        total += more
    return chosen, total


def _has(lines: Mapping[str, object], file_name: str) -> bool:
    return any(name.endswith(f"/{file_name}") for name in lines)


def _quickest(reached: Reached, tests: Collection[str]) -> list[str]:
    return sorted(tests, key=lambda test: float(reached[test]["seconds"]))


def statement_lines(text: str, line: int) -> set[int]:
    """Return the lines of the innermost statement on a line; of one with a body, those before the body."""
    found: set[int] = {line}
    best = sys.maxsize
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        body = getattr(node, "body", None)
        last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
        if node.lineno <= line <= last and last - node.lineno < best:
            best = last - node.lineno
            found = set(range(node.lineno, last + 1))
    return found
