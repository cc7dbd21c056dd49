"""Text in few columns."""

import shlex

import pytest
from rich import cells

from indexer_client.cli import fitting

JOB = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("words", "width", "cut"),
    [
        ("short", 5, "short"),
        ("0123456789abcdef", 10, "01234…cdef"),
        ("0123456789abcdef", 16, "0123456789abcdef"),
        ("日本語の長い名前", 9, "日本…名前"),
    ],
)
def test_a_long_text_is_cut_in_its_middle(words: str, width: int, cut: str) -> None:
    """Beginning and end stay, in columns of the terminal."""
    assert fitting.cut_in_the_middle(words, width) == cut
    assert cells.cell_len(cut) <= width


def test_a_cut_name_keeps_its_end_when_the_id_is_there() -> None:
    """A route ends with the guild's id."""
    assert fitting.cut_in_the_middle("0123456789abcdef", 10, end_share=2 / 3) == "012…abcdef"


@pytest.mark.parametrize("width", [36, 40, 60])
@pytest.mark.parametrize(
    "command",
    [
        f"indexer jobs watch {JOB}",
        "indexer credential put 806171784905752576",
        "indexer --address HOST:PORT context set NAME",
        "indexer index index",
    ],
)
def test_a_command_can_be_copied_when_it_takes_several_lines(command: str, width: int) -> None:
    r"""Every line fits, and a shell reads the lines as the command, because all but the last end with `\\`."""
    shown = list(fitting.command_lines(command, width))

    assert max(map(len, shown)) <= width
    assert shlex.split("\n".join(shown).replace("\\\n", "")) == command.split()


def test_no_word_is_broken_when_a_sentence_is_wrapped() -> None:
    """Further lines are indented as asked."""
    words = f"12:00:00 a guild: + some-channel ({JOB})"

    lines = fitting.wrap(words, 40, indent=2)

    assert lines == ["12:00:00 a guild: + some-channel", f"  ({JOB})"]
