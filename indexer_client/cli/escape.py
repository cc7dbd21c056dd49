"""Escaping of untrusted names: control characters could move the cursor or reorder a line."""

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb]")
"""C0, DEL and C1 controls, line and paragraph separators, writing direction controls and marks, and annotation
characters, which some terminals hide."""


def visible(text: str) -> str:
    r"""
    Return *text* with control characters escaped, as in `\x1b` or `\u202e`.

    Escaping is idempotent.
    """
    return _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 -- the last code with two hex digits
