"""Entry point of `python -m devstack.simulator`."""

import asyncio

from devstack.simulator import app, options


def main() -> None:
    """Run the simulator until a signal."""
    asyncio.run(app.serve(options.parse()))


if __name__ == "__main__":
    main()
