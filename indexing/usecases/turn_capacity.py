"""How many turns a process runs at once, and how long each waits for a permit."""

import contextlib
from collections.abc import Iterator

from indexing import settings
from indexing.domain import model
from indexing.usecases import turn_state

PERMIT_WAIT = 2.0
"""
Longest wait, in seconds, for one permit within a background turn. A longer one ends the turn, whose thread is then free
for other jobs. With 80 jobs for 64 threads, 1 and 2 use the fleet's budget fully and 5 uses four fifths of it, because
positions in the queue are lost while jobs wait for a thread.
"""
SPARE_WAIT = 10.0
"""
The same while the process has spare threads, and by how much a turn then starts tasks later. Each turn costs about as
much as a call: 300 users with 30 guilds each take 9,800 turns for their 8,800 calls with 2, and 3,100 with 10.
"""
MOST_BUSY = 0.75
"""
Share of a process's threads up to which its turns wait longer. With 1, jobs wait for the last threads, and 150 jobs on
100 threads take 82 s instead of 77.
"""
LEAST_WIDTH, MOST_WIDTH = 5, 12


class Capacity:
    """
    The capacity of a process.

    Args:
        user_budget: Capacity of a user's budget, which bounds the concurrent calls of a turn.
        threads: Background turns that the process can run at once.
    """

    def __init__(self, user_budget: int = LEAST_WIDTH, threads: int = 0) -> None:
        self._user_budget = user_budget
        self._threads = threads
        self._running = 0

    @contextlib.contextmanager
    def background_turn(self, config: settings.IndexingSettings, now: float) -> Iterator[turn_state.TurnLimits]:
        """Count a background turn that begins *now* while it runs; returns its limits."""
        seconds = config.turn_time
        limits = turn_state.TurnLimits(
            model.Lane.BACKGROUND,
            now + seconds,
            config.turn_width or min(MOST_WIDTH, max(LEAST_WIDTH, self._user_budget)),
            max_wait=PERMIT_WAIT,
            # The last permit and its call come well before the lease ends.
            spare_wait=min(SPARE_WAIT, (config.turn_lease - seconds) / 3),
            can_wait=self._has_spare_thread,
            seconds=seconds,
        )
        self._running += 1
        try:
            yield limits
        finally:
            self._running -= 1

    def _has_spare_thread(self) -> bool:
        """Return whether there are threads enough for the turns of this process and those that come."""
        return self._running <= self._threads * MOST_BUSY

    def drain(self) -> None:
        """Have the running turns end soon, because the process is about to end: they wait as if no thread was free."""
        self._threads = 0
