"""Results of runs are printed and kept so that each can be repeated."""

import json
import pathlib

import pytest

from tests.chaos import invariants, report, runs


def result(seed: int, fleet: int, *failures: str) -> runs.Result:
    """Return a result whose fleet has played the seeds from *fleet* on."""
    return runs.Result("cut-redis", seed, 1.0, {"I1": invariants.Verdict(9, list(failures))}, {"fleet": fleet})


@pytest.mark.parametrize(
    ("seed", "fleet", "options"),
    [(7, 7, "--scenario cut-redis --seed 7"), (7, 5, "--scenario cut-redis --seed 5 --seeds 3 --together 3")],
)
def test_a_failure_names_the_command_that_repeats_it(
    seed: int, fleet: int, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds that the fleet played before are repeated too."""
    report.print_failures(result(seed, fleet, "2 unexpected 429 responses"))

    shown = capsys.readouterr()
    assert f'make chaos ARGS="{options}"' in shown.out + shown.err


def test_a_newer_result_of_a_seed_replaces_the_older_one(tmp_path: pathlib.Path) -> None:
    """Results of other seeds stay."""
    path = tmp_path / "chaos.json"

    report.keep([result(1, 1, "a failure"), result(2, 1)], path)
    report.keep([result(1, 1)], path)

    kept = json.loads(path.read_text())["scenarios"]["cut-redis"]
    assert [(run["seed"], run["verdicts"]["I1"]["failures"]) for run in kept] == [(1, []), (2, [])]
