"""The only door to Discord's HTTP API."""
