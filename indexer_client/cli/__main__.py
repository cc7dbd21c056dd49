"""The command line `indexer`: a client of the API and nothing more."""

import os
import sys


def main() -> None:
    """Run the command line."""
    # gRPC logs to standard error when a server goes away; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 -- for gRPC, not for us
    from indexer_service.cli import running  # noqa: PLC0415 -- after the line above

    sys.exit(running.main(sys.argv[1:]))
