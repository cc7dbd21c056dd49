"""Unit tests of bus."""
