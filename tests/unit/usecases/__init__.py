"""Unit tests of usecases."""
