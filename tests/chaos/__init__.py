"""Faults of every part of the running product, and the invariants that must hold after each: `make chaos`."""
