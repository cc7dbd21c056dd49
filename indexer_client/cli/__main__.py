"""The console script `indexer`, also `python -m indexer_client.cli`."""

import os
import sys


def main() -> None:
    """Run the command line."""
    # gRPC logs to standard error when a server goes away; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 -- for gRPC, not for us
    from indexer_client.cli import main as command_line  # noqa: PLC0415 -- after the line above

    sys.exit(command_line.run_process(sys.argv[1:]))


if __name__ == "__main__":
    main()
