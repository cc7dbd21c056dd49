"""Entry point of `python -m devstack`."""

import os
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    # gRPC reads this variable at import. Without it, gRPC logs to standard error when a server goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 -- read by gRPC, not by the product
    from devstack import commands  # noqa: PLC0415 -- after the line above

    return commands.run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
