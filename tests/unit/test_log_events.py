"""The list of log events is read from the source."""

import ast

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
