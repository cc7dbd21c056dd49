"""`python -m workers`: one worker process under Dramatiq's own command line."""

import os
import sys

from indexing import settings


def main() -> int:
    """Check the settings, then run Dramatiq; return the exit code: 2 for invalid settings, 1 for a failed boot."""
    try:
        config = settings.load()
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the operator who starts it
        return 2
    # Messages that a process fetches, running ones included (default: twice its threads). All precede later turns.
    # Dramatiq reads it when it is imported.
    prefetch = config.workers.threads + config.workers.spare_turns
    os.environ.setdefault("dramatiq_queue_prefetch", str(prefetch))  # noqa: TID251 -- a setting of Dramatiq
    from dramatiq import cli  # noqa: PLC0415 -- after the line above

    arguments = ["workers.app:setup", "--processes", "1", "--threads", str(config.workers.threads), "--skip-logging"]
    shutdown = str(int(config.workers.shutdown_timeout * 1000))
    options = cli.make_argument_parser().parse_args([*arguments, "--worker-shutdown-timeout", shutdown])  # type: ignore[no-untyped-call]  # untyped there
    return int(cli.main(options) or 0)  # type: ignore[no-untyped-call]  # untyped there


if __name__ == "__main__":
    sys.exit(main())
