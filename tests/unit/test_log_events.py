"""The list of log events is read from the source."""

import ast
import re

import pytest

from docs import make_events


def test_every_event_has_a_level_and_a_meaning() -> None:
    """Also those whose function has no docstring: then their class or module says what happens."""
    events = make_events.list_events()

    assert len(events) > 50
    assert {"serving", "redis_failing", "mongodb_failing", "waiting_for_mongodb"} <= {event[0] for event in events}
    assert [event for event in events if event[1] not in make_events.LEVELS or len(event[3]) < 10] == []


def test_an_event_is_found_with_its_fields() -> None:
    """The first sentence of the docstring around it is its meaning."""
    text = '''
class Thing:
    def work(self):
        """Do the work. More text."""
        self._log.warning("work_failed", job=1, reason="x")
        print("no event")
'''

    found = list(make_events._events(ast.parse(text), "Module.", "indexing/x.py"))

    assert found == [("work_failed", "warning", "`job`, `reason`", "Do the work.", "`indexing/x.py`")]


def test_an_event_whose_name_is_made_up_is_refused() -> None:
    """The page would lack it, and a query by its name is guessed."""
    with pytest.raises(ValueError, match="the name of an event is no constant"):
        list(make_events._events(ast.parse("name = 'a'\nself._log.warning(name, job=1)"), "Module.", "indexing/x.py"))


def test_events_exist_when_a_command_of_the_runbook_looks_for_them() -> None:
    """Those of `lines 'one|other'`; an event that is renamed is renamed there too."""
    runbook = (make_events.CHECKOUT / "docs/runbook.md").read_text("utf-8")
    named = {name for found in re.findall(r"^lines '([^']+)'", runbook, re.MULTILINE) for name in found.split("|")}

    assert len(named) > 20
    assert named - {event[0] for event in make_events.list_events()} == set()
