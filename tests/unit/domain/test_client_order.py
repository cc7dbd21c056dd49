"""Channels are listed in the order in which Discord's clients show them."""

from indexing.domain import channel_views, model
from tests import values

TEXT, VOICE, CATEGORY, STAGE = 0, 2, 4, 13


def names(*channels: model.Channel) -> list[str]:
    """Return the names in order."""
    return [channel.name for _, channel in channel_views.client_order(channels)]


def test_channels_are_grouped_by_category_and_text_comes_before_voice() -> None:
    """Those without a category come first, whatever their position."""
    assert names(
        values.channel(1, 9, name="INFO", kind=CATEGORY, position=0),
        values.channel(2, 9, name="GAMES", kind=CATEGORY, position=1),
        values.channel(11, 9, name="rules", kind=TEXT, position=1, parent_id=1),
        values.channel(12, 9, name="Lounge", kind=VOICE, position=0, parent_id=1),
        values.channel(21, 9, name="chess", kind=TEXT, position=0, parent_id=2),
        values.channel(22, 9, name="Stage", kind=STAGE, position=0, parent_id=2),
        values.channel(3, 9, name="welcome", kind=TEXT, position=2),
    ) == ["welcome", "INFO", "rules", "Lounge", "GAMES", "chess", "Stage"]


def test_equal_positions_are_ordered_by_id() -> None:
    """Also those of categories."""
    assert names(
        values.channel(8, 9, name="second", kind=CATEGORY, position=0),
        values.channel(7, 9, name="first", kind=CATEGORY, position=0),
        values.channel(22, 9, name="d", kind=TEXT, position=3, parent_id=8),
        values.channel(21, 9, name="c", kind=TEXT, position=3, parent_id=8),
    ) == ["first", "second", "c", "d"]


def test_a_channel_of_an_unlisted_category_counts_as_without_one() -> None:
    """Its parent may be hidden, or a channel that is no category."""
    assert names(
        values.channel(1, 9, name="INFO", kind=CATEGORY, position=0),
        values.channel(5, 9, name="orphan", kind=TEXT, position=9, parent_id=77),
        values.channel(6, 9, name="child of text", kind=TEXT, position=8, parent_id=5),
    ) == ["child of text", "orphan", "INFO"]
