"""Unit tests of indexer_service interceptors."""
