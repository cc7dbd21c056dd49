"""Feeds the index from Discord's Gateway: protocol, connections, shards."""
