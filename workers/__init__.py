"""The worker processes: a thin shell around the core."""
