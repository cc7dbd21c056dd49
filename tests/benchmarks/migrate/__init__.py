"""How long a migration from rows to documents takes, and what it costs the server."""
