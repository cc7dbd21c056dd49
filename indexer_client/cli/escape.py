"""Names of guilds and channels are data from strangers: what could move a cursor or reorder a line is made visible."""

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb]")
"""C0, DEL and C1 controls, the line and paragraph separators, the controls and marks of writing direction, and those of
annotations, which some terminals hide."""


def visible(text: str) -> str:
    r"""
    Return *text* with its controls written out, as in `\x1b` or `\u202e`; everything else stays as it is.

    What was written out once stays the same when it is written out again, so that it does no harm to do it twice.
    """
    return _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 -- the last code of two digits
