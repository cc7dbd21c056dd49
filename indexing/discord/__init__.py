"""The adapter of Discord's HTTP API and its token endpoint."""
