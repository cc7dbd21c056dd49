"""The page of servers shows what the drills have recorded."""

from tests.server_kinds import faults, kinds, page


def test_the_page_is_that_of_the_record() -> None:
    """Nobody changes a row by hand."""
    assert page.PAGE.read_text("utf-8") == page.render(page.load())


def test_what_is_recorded_can_be_tried_again() -> None:
    """A server or fault that is renamed or gone leaves the page."""
    record = page.load()

    assert record["kinds"].keys() <= {kind.name for kind in kinds.KINDS}
    assert record["faults"].keys() <= set(faults.names())


def test_a_row_names_no_port_and_keeps_its_columns() -> None:
    """Ports differ with each run; a bar within a cell would begin another."""
    assert page._row("127.0.0.1:4711 refuses", "a|b\nc") == "| HOST:PORT refuses | a\\|b c |"
