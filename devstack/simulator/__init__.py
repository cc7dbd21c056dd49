"""Plays Discord's HTTP API on loopback, by its documentation alone: `python -m devstack.simulator --help`."""
