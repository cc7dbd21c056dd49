"""Which servers the product runs on, and what it says about a faulty one, seen with real servers: docs/servers.md."""
