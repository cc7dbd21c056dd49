"""Plays Discord's HTTP API on loopback, by its documentation and nothing else: `python -m tests.simulator --help`."""
