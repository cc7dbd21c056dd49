"""Programs of callers in other languages, built and run against a real stack: make check-clients."""
