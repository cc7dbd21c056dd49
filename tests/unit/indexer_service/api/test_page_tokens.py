"""Page and watch tokens."""

import string

import hypothesis
import pytest
from hypothesis import strategies

from indexer_service.api import page_tokens
from indexing import errors

KEY, NEW, OTHER = b"k" * 32, b"n" * 32, b"o" * 32
VALUE = ["a" * 32, "1795000000000-0", -7, None]


@hypothesis.given(
    strategies.lists(strategies.integers(-(1 << 63), 1 << 63) | strategies.text(max_size=40) | strategies.none())
)
def test_the_value_comes_back_when_the_token_is_read(value: list[object]) -> None:
    """As long as it is read for what it was made for; it travels in URLs."""
    signer = page_tokens.Tokens((KEY,))

    token = signer.make("watch", value)

    assert signer.read("resume_token", "watch", token) == value
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")


def test_a_token_is_refused_when_it_was_made_for_something_else() -> None:
    """A token of another user's list opens nothing, and the refusal names the field."""
    signer = page_tokens.Tokens((KEY,))

    with pytest.raises(errors.InvalidArgument) as refused:
        signer.read("page_token", "guilds:2", signer.make("guilds:1", 50))

    assert refused.value.field == "page_token"


def test_a_token_is_refused_when_any_character_was_changed() -> None:
    """Nobody makes his own."""
    signer = page_tokens.Tokens((KEY,))
    token = signer.make("watch", VALUE)

    for place, character in enumerate(token[:-1]):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        with pytest.raises(errors.InvalidArgument):
            signer.read("resume_token", "watch", changed)


@hypothesis.given(strategies.text() | strategies.from_regex(r"[A-Za-z0-9._-]{0,200}", fullmatch=True))
def test_a_token_is_refused_when_it_is_garbage(token: str) -> None:
    """Whatever it is, the caller is told which field is wrong."""
    with pytest.raises(errors.InvalidArgument):
        page_tokens.Tokens((KEY,)).read("page_token", "watch", token)


def test_old_tokens_are_read_when_a_new_key_stands_in_front() -> None:
    """Rotation breaks no stream; new tokens are signed with the new key."""
    old = page_tokens.Tokens((KEY,)).make("watch", VALUE)
    rotated = page_tokens.Tokens((NEW, KEY))

    assert rotated.read("resume_token", "watch", old) == VALUE
    assert page_tokens.Tokens((NEW,)).read("resume_token", "watch", rotated.make("watch", VALUE)) == VALUE


def test_a_token_is_refused_when_its_key_is_gone() -> None:
    """A key that was taken out of the ring signs nothing any more."""
    with pytest.raises(errors.InvalidArgument):
        page_tokens.Tokens((NEW, OTHER)).read("resume_token", "watch", page_tokens.Tokens((KEY,)).make("watch", VALUE))
