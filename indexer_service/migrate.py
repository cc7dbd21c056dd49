"""`python -m indexer_service migrate`: moves the stored data from rows to documents while service and workers run."""

import asyncio
import sys
import time

from rich import console, progress

from indexing import settings
from indexing.store import database, migrations
from indexing.store.rows import copying
from indexing.telemetry import logs

CLOCK = time.time  # noqa: TID251 -- the one clock of this process


async def migrate(config: settings.MigrationConfig, *, settle: float = migrations.SETTLE) -> int:
    """
    Migrate, with a progress bar on a terminal and a log line for each batch.

    Returns the exit code: 1 when another process migrates, or one of the release before runs.

    Raises:
        errors.StoreUnavailable: Run it again; it continues with what is left.
    """
    terminal = console.Console(stderr=True, markup=False, highlight=False)
    async with database.open_database(config.mongo) as opened:
        with progress.Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
            migrator = migrations.Migrator(opened, CLOCK, _Report(bar).note, settle=settle)
            try:
                await _migrate_alone(migrator)
            except migrations.Held:
                sys.stderr.write("another process migrates\n")
                return 1
            except copying.OldRelease as problem:
                sys.stderr.write(f"not complete: {problem}; end all of them, then run it again to continue\n")
                return 1
    sys.stdout.write("documents are in use; check the fleet, then drop the rows with migrate --drop-rows\n")
    return 0


async def _migrate_alone(migrator: migrations.Migrator) -> None:
    """Migrate as soon as the lease of a process that was killed is over."""
    deadline = time.monotonic() + migrations.LEASE + 5.0
    while True:
        try:
            await migrator.migrate()
        except migrations.Held:
            if time.monotonic() > deadline:
                raise
            logs.get(__name__).info("migration_waits", reason="another process migrates or was killed")
            await asyncio.sleep(1.0)
        else:
            return


class _Report:
    """A bar for each step, and a log line for each batch."""

    def __init__(self, bar: progress.Progress) -> None:
        self._bar = bar
        self._tasks: dict[tuple[str, bool], progress.TaskID] = {}
        self._log = logs.get(__name__)

    def note(self, batch: migrations.Batch) -> None:
        """Show a batch."""
        key = batch.step, batch.again
        if key not in self._tasks:
            self._tasks[key] = self._bar.add_task(f"{batch.step}, second pass" if batch.again else batch.step)
        self._bar.update(self._tasks[key], completed=batch.seen, total=batch.total)
        self._log.info(
            "migration_batch",
            step=batch.step,
            again=batch.again,
            seen=batch.seen,
            total=batch.total,
            copied=batch.copied,
            seconds=round(batch.seconds, 3),
        )


async def drop_rows(config: settings.MigrationConfig, *, settle: float = migrations.SETTLE) -> int:
    """
    Drop the rows. Returns the exit code: 1 when they are still in use.

    Raises:
        errors.StoreUnavailable: Run it again; it continues with what is left.
    """
    async with database.open_database(config.mongo) as opened:
        try:
            await migrations.drop_rows(opened, CLOCK, settle=settle)
        except migrations.NotMigrated:
            sys.stderr.write("nothing dropped: the rows are in use until half a minute after the end of migrate\n")
            return 1
    sys.stdout.write("the rows are dropped\n")
    return 0
