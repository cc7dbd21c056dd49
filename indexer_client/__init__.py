"""Clients of the indexer's API."""
