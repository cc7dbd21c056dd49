"""The command line: `python -m devstack.simulator --users 1 --guilds-per-user 60`."""

import asyncio

from devstack.simulator import app, options


def main() -> None:
    """Run the simulator until a signal ends it."""
    asyncio.run(app.serve(options.parse()))


if __name__ == "__main__":
    main()
