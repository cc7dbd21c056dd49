"""Unit tests of indexer_service api."""
