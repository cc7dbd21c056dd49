"""What is mutated, and what stays."""

import builtins
import pathlib
from typing import Any

import pytest

from tests.mutants import mutations, reached


@pytest.mark.parametrize(
    ("source", "mutated"),
    [
        ("a < b", ["a <= b"]),
        ("a is None and b", ["a is not None and b", "a is None or b"]),
        ("not a", ["not not a"]),
        ("f(3, True)", ["f(4, True)", "f(3, False)", "None"]),
        ("x = {'active': a, 'turn': b}", ["x = {'turn': b}", "x = {'active': a}"]),
        ("await f()", ["None"]),
        ("self._log.info('a', n=b)", []),
        ("x: Literal[3] = a", []),
        ("'a' + b", []),
        ("x = find(a, {'b': 1, 'c': 1})", ["x = find(a, {'c': 1})", "x = find(a, {'b': 1})"]),
        ("x = find({'b': {'c': 1}})", ["x = find({})", "x = find({'b': {}})", "x = find({'b': {'c': 2}})"]),
    ],
)
def test_each_place_is_changed_alone(tmp_path: pathlib.Path, source: str, mutated: list[str]) -> None:
    """Log lines, annotations and texts stay."""
    path = tmp_path / "module.py"
    path.write_text(source)

    assert sorted(one.text for one in mutations.mutations_of(path)) == sorted(mutated)


def test_operators_of_scripts_are_swapped(tmp_path: pathlib.Path) -> None:
    """Comments stay."""
    path = tmp_path / "script.lua"
    path.write_text("if a <= b then c = d + 1 end -- a < b\n")

    assert [one.what for one in mutations.mutations_of(path)] == [
        "<= -> <: if a < b then c = d + 1 end -- a < b",
        "+ -> -: if a <= b then c = d - 1 end -- a < b",
    ]


def test_the_tests_of_a_mutation_are_those_that_run_its_statement(tmp_path: pathlib.Path) -> None:
    """The quickest first; for a statement that runs at the import all, first those that run anything of the file."""
    text = "LIMIT = 3\n\n\ndef f(a):\n    if a:\n        return (\n            1\n        )\n    return 2\n"
    path = pathlib.PurePath("module.py")
    traced = {
        "slow": {"seconds": 2.0, "lines": {"module.py": [5, 6]}},
        "other": {"seconds": 0.1, "lines": {"module.py": [5, 9]}},
        "quick": {"seconds": 1.0, "lines": {"module.py": [5, 6]}},
        "none": {"seconds": 0.1, "lines": {"other.py": [6]}},
    }

    chosen = {line: reached.choose_tests(traced, path, line, text) for line in (1, 5, 7, 9)}

    assert chosen == {
        1: ["other", "quick", "slow", "none"],
        5: ["other", "quick", "slow"],
        7: ["quick", "slow"],
        9: ["other"],
    }


def test_the_quickest_tests_are_run_when_all_take_too_long() -> None:
    """At least one, however long it takes."""
    traced = {name: {"seconds": seconds} for name, seconds in [("a", 1.0), ("b", 2.0), ("c", 3.0)]}

    chosen = {seconds: reached.within(traced, ["a", "b", "c"], seconds) for seconds in (0.5, 3.0, 9.0)}

    assert chosen == {0.5: (["a"], 1.0), 3.0: (["a", "b"], 3.0), 9.0: (["a", "b", "c"], 6.0)}


def test_code_notes_the_statements_that_it_runs() -> None:
    """It does what it did before."""
    text = '"""Text."""\nfrom __future__ import annotations\n\n\ndef f(a):\n    if a:\n        return 1\n    return 2\n'
    space: dict[str, Any] = {}

    exec(reached.noting("module.py", text), space)  # noqa: S102 -- code of this test

    noted = builtins.__dict__[reached.NOTES]
    noted.clear()
    assert (space["f"](0), noted) == (2, {"module.py:6", "module.py:8"})
