"""Each invariant has a control, and each control still breaks the product at its place."""

import pathlib

import pytest

from tests.chaos import controls, invariants, scenarios


def test_each_invariant_has_a_control() -> None:
    """Its scenario exists."""
    assert list(dict.fromkeys(control.invariant for control in controls.CONTROLS)) == [*invariants.INVARIANTS]
    assert {control.scenario for control in controls.CONTROLS} <= set(scenarios.SCENARIOS)


@pytest.mark.parametrize("control", controls.CONTROLS, ids=lambda control: control.invariant)
def test_a_control_changes_the_product_into_other_code_that_compiles(
    control: controls.Control, tmp_path: pathlib.Path
) -> None:
    """`make chaos-controls` plays it."""
    controls.make_broken(control, tmp_path)

    for name in control.edits:
        text = (tmp_path / name).read_text()
        assert text != (controls.ROOT / name).read_text()
        compile(text, name, "exec")
