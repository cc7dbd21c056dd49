"""Unit tests of discord."""
