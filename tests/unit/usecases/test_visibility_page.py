"""The page of what is shown in each state of each input is current, and no state shows more than the fresh one."""

import pytest

from tests.unit.usecases import visibility_page

pytestmark = pytest.mark.clockwork
STATES = {"missing", "old", "contradictory", "failing"}


async def test_the_page_is_current() -> None:
    """`make docs` writes it; a change of what is shown shows in its diff."""
    assert visibility_page.PAGE.read_text(encoding="utf-8") == await visibility_page.render()


def test_every_input_has_every_state() -> None:
    """The bot's access has no time of its own: it is removed by an answer, or it stays."""
    found = {(one.input, one.state) for one in visibility_page.STATES}
    inputs = (visibility_page.LIST, visibility_page.ROLES, visibility_page.CHANNELS)

    assert {(name, state) for name in inputs for state in STATES} <= found


@pytest.mark.parametrize("one", visibility_page.STATES, ids=lambda one: f"{one.input}, {one.what}")
async def test_no_state_shows_more_than_the_fresh_one(one: visibility_page.State) -> None:
    """For no viewer."""
    fresh, found = await visibility_page.play(visibility_page.STATES[0]), await visibility_page.play(one)

    for user, (names, _) in found.items():
        assert set(names.split(", ")) - {"nothing"} <= set(fresh[user][0].split(", "))
