"""Makes a release: `make release VERSION=0.2.0`, with ARGS=--dry-run in a copy; docs/release.md describes it."""
