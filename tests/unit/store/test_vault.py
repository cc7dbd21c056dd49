"""Credentials at rest."""

import hypothesis
import pytest
from hypothesis import strategies

from indexing.store import credentials
from tests import values

KEY, NEW, OTHER = b"k" * 32, b"n" * 32, b"o" * 32
TEXT = b'["the access token", "the refresh token"]'
USER = values.USER


@hypothesis.given(strategies.binary(max_size=3000), strategies.integers(1, (1 << 63) - 1))
def test_the_text_comes_back_when_it_was_sealed(text: bytes, user: int) -> None:
    """Byte for byte, for the same user."""
    safe = credentials.Vault((KEY,))

    assert safe.open(user, safe.seal(user, text)) == text


def test_nothing_of_the_text_shows_when_it_is_sealed() -> None:
    """And the same text never looks the same twice."""
    safe = credentials.Vault((KEY,))

    sealed = [safe.seal(USER, TEXT) for _ in range(50)]

    assert len(set(sealed)) == 50
    assert not any(b"token" in one for one in sealed)


def test_a_value_does_not_open_when_it_stands_in_another_users_row() -> None:
    """Write access to the database is not enough to give one user another user's token."""
    safe = credentials.Vault((KEY,))

    with pytest.raises(credentials.CannotOpen):
        safe.open(USER + 1, safe.seal(USER, TEXT))


def test_old_values_open_when_a_new_key_stands_in_front() -> None:
    """That is how keys are rotated; new values are sealed with the new key alone."""
    old = credentials.Vault((KEY,)).seal(USER, TEXT)
    rotated = credentials.Vault((NEW, KEY))

    renewed = rotated.seal(USER, TEXT)

    assert rotated.open(USER, old) == TEXT
    assert credentials.Vault((NEW,)).open(USER, renewed) == TEXT


def test_a_value_does_not_open_when_its_key_is_gone() -> None:
    """A key that was taken out of the ring opens nothing."""
    with pytest.raises(credentials.CannotOpen):
        credentials.Vault((NEW, OTHER)).open(USER, credentials.Vault((KEY,)).seal(USER, TEXT))


@pytest.mark.parametrize("bit", range(8))
def test_a_value_does_not_open_when_any_bit_of_it_was_changed(bit: int) -> None:
    """Key id, nonce, text and seal are all covered."""
    safe = credentials.Vault((KEY, NEW))
    sealed = safe.seal(USER, TEXT)

    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << bit
        with pytest.raises(credentials.CannotOpen):
            safe.open(USER, bytes(changed))


def test_a_value_does_not_open_when_it_was_cut_or_made_longer() -> None:
    """Any other length is refused, the empty one included."""
    safe = credentials.Vault((KEY,))
    sealed = safe.seal(USER, TEXT)

    for changed in [sealed[:length] for length in range(len(sealed))] + [sealed + b"\0"]:
        with pytest.raises(credentials.CannotOpen):
            safe.open(USER, changed)
