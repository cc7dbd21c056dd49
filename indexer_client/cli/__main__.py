"""Entry point of the console script `indexer` and of `python -m indexer_client.cli`."""

import os
import sys


def main() -> None:
    """Run the command line."""
    # gRPC reads this variable at import. Without it, gRPC logs to standard error when a server goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 -- read by gRPC, not by the product
    try:
        from indexer_client.cli import main as command_line  # noqa: PLC0415 -- after the line above
    except ModuleNotFoundError as missing:
        if missing.name not in {"typer", "rich"}:
            raise
        sys.exit("indexer: the command line is an extra; run: pip install 'discord-channel-indexer-client[cli]'")

    sys.exit(command_line.run_process(sys.argv[1:]))


if __name__ == "__main__":
    main()
