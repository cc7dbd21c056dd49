"""
HTTP/2 by hand, for what no gRPC client does: half-sent requests, resets, and connections that do nothing.

Frames and header fields are those of RFC 9113 and RFC 7541 (read 2026-11-29). Headers are sent as literals without
indexing, so no table is needed.
"""

import struct
from collections.abc import Iterator, Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
CANCEL = 8
MAX_WINDOW = 2**31 - 1
INITIAL_WINDOW = 65_535
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
HEAD = 9
Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def frames(buffer: bytearray) -> Iterator[Frame]:
    """Take the complete frames out of *buffer*."""
    while len(buffer) >= HEAD:
        length = int.from_bytes(buffer[:3], "big")
        if len(buffer) < HEAD + length:
            return
        kind, flags, stream = struct.unpack(">BBI", buffer[3:HEAD])
        payload = bytes(buffer[HEAD : HEAD + length])
        del buffer[: HEAD + length]
        yield kind, flags, stream, payload


def opening(window: int = MAX_WINDOW) -> bytes:
    """Return what a client sends first; *window* is how much of each stream's response it takes."""
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
    return PREFACE + settings + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", MAX_WINDOW - INITIAL_WINDOW))


def replies(buffer: bytearray) -> tuple[bytes, list[Frame]]:
    """Return what a client has to answer to the frames in *buffer*, and the frames."""
    answer = b""
    found = list(frames(buffer))
    for kind, flags, _, payload in found:
        if kind in {SETTINGS, PING} and not flags & ACK:
            answer += frame(kind, ACK, 0, payload if kind == PING else b"")
    return answer, found


def settings_in(found: Sequence[Frame]) -> dict[int, int]:
    """Return the server's settings among frames."""
    payloads = (payload for kind, flags, _, payload in found if kind == SETTINGS and not flags & ACK)
    return {key: value for payload in payloads for key, value in struct.iter_unpack(">HI", payload)}


def _text(value: str) -> bytes:
    """Return a string literal: its length as an integer with a prefix of 7 bits, then its bytes."""
    raw = value.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, length = len(raw) - 127, b"\x7f"
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return length + bytes([rest]) + raw


def headers(stream: int, path: str, extra: Sequence[tuple[str, str]] = (), *, flags: int = END_HEADERS) -> bytes:
    """Return the frame that begins a gRPC call."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *extra,
    )
    return frame(HEADERS, flags, stream, b"".join(b"\x00" + _text(key) + _text(value) for key, value in fields))


def message(stream: int, body: bytes, *, length: int | None = None, flags: int = END_STREAM) -> bytes:
    """Return a message of a call; with *length*, one that announces that many bytes and ends short of them."""
    return frame(DATA, flags, stream, struct.pack(">BI", 0, len(body) if length is None else length) + body)


def reset(stream: int) -> bytes:
    """Return the frame that cancels a call."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
