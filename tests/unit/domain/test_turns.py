"""The payload of a turn, between releases."""

import pytest

from indexing.domain import turns


def test_a_turn_is_unchanged_when_it_is_parsed_from_its_message() -> None:
    """From any release: unknown fields are ignored, and numbers may be strings."""
    turn = turns.Turn("a" * 32, 7)

    found = [
        turns.parse(turn.payload()),
        turns.parse({**turn.payload(), "brand_new": [1]}),
        turns.parse({"job_id": "a" * 32, "number": "7"}),
    ]

    assert found == [turn] * 3


def test_a_message_is_rejected_when_its_fields_are_missing() -> None:
    """It is not a turn."""
    payloads: list[dict[str, object]] = [{}, {"job_id": "a"}, {"number": 1}]

    for payload in payloads:
        with pytest.raises(KeyError):
            turns.parse(payload)
