"""Which operation of a process goes first when several wait for a slot."""

import contextlib
import contextvars
import time
from collections.abc import Iterator

_SINCE: "contextvars.ContextVar[float | None]" = contextvars.ContextVar("since", default=None)


@contextlib.contextmanager
def by_age() -> Iterator[None]:
    """
    Let the operations of this block, and of tasks that begin in it, go before those of blocks that began later.

    With more to do than a server can bear, work that takes turns ends late, all of it. By age, the first ends soon and
    the last no later. A block within another has its age, and ends it for the task.
    """
    if _SINCE.get() is None:
        _SINCE.set(time.perf_counter())
    try:
        yield
    finally:
        _SINCE.set(None)


def rank_of_operation() -> float:
    """Return the rank of an operation that begins now: the smaller, the sooner it goes."""
    since = _SINCE.get()
    return time.perf_counter() if since is None else since
