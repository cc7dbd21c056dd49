"""The compact value of what a stream has sent, and the difference between two of them."""

import hypothesis
from hypothesis import strategies

from indexing.domain import shown_channels

A, B = b"aaaaaaaa", b"bbbbbbbb"
ROWS = strategies.dictionaries(strategies.integers(1, 30), strategies.sampled_from([A, B]))


def rows(hashes: dict[int, bytes], size: int = 100) -> list[shown_channels.Row]:
    """Return rows of *size* bytes each."""
    return [shown_channels.Row(channel_id, row_hash, size) for channel_id, row_hash in hashes.items()]


def test_new_changed_and_removed_channels_are_found_when_two_values_differ() -> None:
    """By position in the given order; unchanged ones are left out."""
    before, wanted = {1: A, 2: A, 3: A}, {4: A, 2: B, 1: A}

    found = shown_channels.difference(
        shown_channels.pack(before.items()),
        rows(wanted),
        shown_channels.pack(wanted.items()),
        most_bytes=1000,
    )

    assert (found.rows, found.removed) == ([0, 1], [3])
    assert shown_channels.unpack(found.after) == wanted


@hypothesis.given(before=ROWS, wanted=ROWS, most=strategies.integers(0, 1000))
def test_every_message_fits_and_they_lead_to_what_is_wanted_when_a_difference_is_sent_in_parts(
    before: dict[int, bytes], wanted: dict[int, bytes], most: int
) -> None:
    """Each has at least one row, so that it ends; removals are in the first."""
    value, target, messages = shown_channels.pack(before.items()), shown_channels.pack(wanted.items()), 0
    client = dict(before)
    while value != target:
        found = shown_channels.difference(value, rows(wanted), target, most_bytes=most)
        messages += 1
        for channel_id in found.removed:
            del client[channel_id]
        client |= {list(wanted)[place]: list(wanted.values())[place] for place in found.rows}
        assert len(found.rows) <= max(1, most // 100)
        assert not found.removed or messages == 1
        assert client == shown_channels.unpack(found.after)
        value = found.after

    assert client == wanted
    assert messages <= len(wanted) + 1


def test_rows_are_sent_up_to_exactly_the_bound() -> None:
    """A row that fits to the byte is not left for the next message."""
    wanted = {1: A, 2: A, 3: A}
    target = shown_channels.pack(wanted.items())

    sent = [
        shown_channels.difference(shown_channels.pack([]), rows(wanted), target, most_bytes=most).rows
        for most in (199, 200, 299, 300)
    ]

    assert sent == [[0], [0, 1], [0, 1], [0, 1, 2]]
