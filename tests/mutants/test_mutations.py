"""What is mutated, and what stays."""

import pathlib

import pytest

from tests.mutants import mutations


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
