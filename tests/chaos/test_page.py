"""The page of promises agrees with the scenarios and with the last results."""

from tests.chaos import page, scenarios


def test_the_page_shows_every_scenario_with_the_last_counts() -> None:
    """`python -m tests.chaos.page` writes it."""
    text = page.PAGE.read_text()

    assert text == page.with_tables(text)
    assert [name for name in scenarios.SCENARIOS if f"| `{name}` |" not in text] == []


def test_a_failure_is_shown_with_its_count() -> None:
    """A reader sees which promise did not hold."""
    runs = [
        {"verdicts": {"I1": {"checked": 9, "failures": ["2 unexpected 429 responses"]}}},
        {"verdicts": {"I1": {"checked": 5, "failures": []}}},
    ]

    text = page.render_scenarios({"scenarios": {"cut-redis": runs}})

    assert "2 runs, 1 of them without a failure" in text
    assert "| `cut-redis` | 2 | **1 of 14** |" in text
