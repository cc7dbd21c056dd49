"""Sets of ids as bytes: 8 bytes an id, searched in place."""

import array
import bisect
import sys
from collections.abc import Iterable, Sequence


def pack_ids(ids: Iterable[int]) -> bytes:
    """Return ids, each once, as sorted little-endian 64-bit integers: 8 bytes an id, equal sets are equal bytes."""
    packed = array.array("q", sorted(set(ids)))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_ids(packed: bytes) -> Sequence[int]:
    """Return the ids of `pack_ids` in order; on little-endian machines nothing is copied."""
    if sys.byteorder == "big":
        ids = array.array("q", packed)
        ids.byteswap()
        return ids
    return memoryview(packed).cast("q")


def has_id(packed: bytes, wanted: int) -> bool:
    """Return whether *wanted* is among the ids of `pack_ids`."""
    ids = unpack_ids(packed)
    place = bisect.bisect_left(ids, wanted)
    return place < len(ids) and ids[place] == wanted
