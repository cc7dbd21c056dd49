"""
A wall clock that can be set, for one Python process: `CHAOS_CLOCK` names a file with its offset in seconds.

The interpreter imports this module at its start when its folder is in PYTHONPATH. Faketime is no alternative here: with
it, time.sleep fails with EINVAL (libfaketime 0.9.10, Python 3.11).
"""

import os
import pathlib
import time

_FILE = pathlib.Path(os.environ["CHAOS_CLOCK"])  # noqa: TID251 -- not a setting of the product
_true_time = time.time  # noqa: TID251 -- what is replaced


def _offset() -> float:
    try:
        return float(_FILE.read_text(encoding="ascii").rstrip("s\n"))
    except (OSError, ValueError):
        return 0.0


def _set_time() -> float:
    return _true_time() + _offset()


time.time = _set_time  # noqa: TID251 -- for this process alone
time.time_ns = lambda: int(_set_time() * 1e9)
