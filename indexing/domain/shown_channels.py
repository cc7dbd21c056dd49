"""
What a stream has sent of a guild's channels, as one compact value, and the difference to what it has to send.

The value holds 16 bytes for each channel: its id and a hash of its encoded row, ordered by id. Streams whose users see
the same channels share one value, so a stream is small however many channels it shows.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 8
ENTRY_BYTES = 8 + HASH_BYTES
NOTHING = b""


def hash_of(data: bytes) -> bytes:
    """Return a short hash, with which two versions of a row are compared."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def pack(hashes: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the value for channels, given as ids with the hashes of their rows."""
    return b"".join(channel_id.to_bytes(8, "big") + row_hash for channel_id, row_hash in sorted(hashes))


def unpack(packed: bytes) -> dict[int, bytes]:
    """Return the hashes by channel id."""
    entries = (packed[at : at + ENTRY_BYTES] for at in range(0, len(packed), ENTRY_BYTES))
    return {int.from_bytes(entry[:8], "big"): entry[8:] for entry in entries}


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A channel that is to be shown; `size` is the approximate size of its row in bytes."""

    channel_id: int
    row_hash: bytes
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """
    What leads from one value towards another, in one message.

    Attributes:
        rows: Positions in the given rows of those to send.
        removed: Channels that are no longer shown.
        after: The value once this is sent; the wanted one unless the rows are more than fit in a message.
    """

    rows: list[int]
    removed: list[int]
    after: bytes


def difference(before: bytes, rows: Sequence[Row], wanted: bytes, *, most_bytes: int) -> Difference:
    """
    Return the next message's difference between what was sent and what is to be shown.

    Removals come first, and at least one row is sent if any differs.

    Args:
        before: Value of what was sent.
        rows: Everything that is to be shown.
        wanted: Value of *rows*.
        most_bytes: Bound on the size of the rows of one message.
    """
    if before == wanted:
        return Difference([], [], wanted)
    sent = unpack(before)
    kept = {row.channel_id for row in rows}
    removed = [channel_id for channel_id in sent if channel_id not in kept]
    chosen: list[int] = []
    size = 0
    for place, row in enumerate(rows):
        if sent.get(row.channel_id) == row.row_hash:
            continue
        size += row.size
        if chosen and size > most_bytes:
            for channel_id in removed:
                del sent[channel_id]
            sent |= {rows[at].channel_id: rows[at].row_hash for at in chosen}
            return Difference(chosen, removed, pack(sent.items()))
        chosen.append(place)
    return Difference(chosen, removed, wanted)
