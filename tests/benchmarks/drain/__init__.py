"""SIGTERM under load, to services and workers in turn: what callers, watchers and jobs notice of it."""
