"""Tests, and the programs that only tests and the demo need."""
