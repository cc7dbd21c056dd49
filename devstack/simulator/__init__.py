"""A simulator of Discord's HTTP API, written from its documentation: `python -m devstack.simulator --help`."""
