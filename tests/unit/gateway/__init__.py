"""Tests of indexing.gateway."""
