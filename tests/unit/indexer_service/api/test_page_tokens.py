"""Page and resume tokens."""

import hashlib
import string

import hypothesis
import itsdangerous
import pytest
from hypothesis import strategies

from indexer_service.api import page_tokens
from indexing import errors

KEY, NEW, OTHER = b"k" * 32, b"n" * 32, b"o" * 32
VALUE = ["a" * 32, "1795000000000-0", -7, None]


@hypothesis.given(
    strategies.lists(strategies.integers(-(1 << 63), 1 << 63) | strategies.text(max_size=40) | strategies.none())
)
def test_the_value_is_returned_when_a_token_is_verified(value: list[object]) -> None:
    """For the same purpose; a token is safe in URLs."""
    tokens = page_tokens.PageTokens((KEY,))

    token = tokens.sign("watch", value)

    assert tokens.verify("resume_token", "watch", token) == value
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")


def test_a_token_is_refused_when_it_was_signed_for_another_purpose() -> None:
    """Such as another user's list; the error names the field."""
    tokens = page_tokens.PageTokens((KEY,))

    with pytest.raises(errors.InvalidArgument) as refused:
        tokens.verify("page_token", "guilds:2", tokens.sign("guilds:1", 50))

    assert refused.value.field == "page_token"


def test_a_token_is_refused_when_any_character_was_changed() -> None:
    """Callers cannot forge tokens."""
    tokens = page_tokens.PageTokens((KEY,))
    token = tokens.sign("watch", VALUE)

    for place, character in enumerate(token[:-1]):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        with pytest.raises(errors.InvalidArgument):
            tokens.verify("resume_token", "watch", changed)


@hypothesis.given(strategies.text() | strategies.from_regex(r"[A-Za-z0-9._-]{0,200}", fullmatch=True))
def test_a_token_is_refused_when_it_is_garbage(token: str) -> None:
    """The error names the field."""
    with pytest.raises(errors.InvalidArgument):
        page_tokens.PageTokens((KEY,)).verify("page_token", "watch", token)


def test_old_tokens_are_accepted_when_a_new_key_is_added_first() -> None:
    """Key rotation breaks no stream; new tokens are signed with the new key."""
    old = page_tokens.PageTokens((KEY,)).sign("watch", VALUE)
    rotated = page_tokens.PageTokens((NEW, KEY))

    assert rotated.verify("resume_token", "watch", old) == VALUE
    assert page_tokens.PageTokens((NEW,)).verify("resume_token", "watch", rotated.sign("watch", VALUE)) == VALUE


def test_a_token_is_refused_when_its_key_is_removed() -> None:
    """A removed key verifies nothing."""
    with pytest.raises(errors.InvalidArgument):
        page_tokens.PageTokens((NEW, OTHER)).verify(
            "resume_token", "watch", page_tokens.PageTokens((KEY,)).sign("watch", VALUE)
        )


def test_tokens_of_the_release_before_are_accepted_and_it_accepts_these() -> None:
    """It compresses them; callers that page during an upgrade reach both releases in turn."""
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    before = itsdangerous.URLSafeSerializer([KEY], salt="indexer.watch", signer_kwargs=options)
    tokens = page_tokens.PageTokens((KEY,))
    compressed = before.dumps(VALUE)

    assert str(compressed).startswith(".")
    assert tokens.verify("resume_token", "watch", str(compressed)) == VALUE
    assert before.loads(tokens.sign("watch", VALUE)) == VALUE
