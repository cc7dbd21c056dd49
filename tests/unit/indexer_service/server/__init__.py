"""Unit tests of indexer_service server."""
