"""A client that watches while services are restarted and drained and connections are cut."""
