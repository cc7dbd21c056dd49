"""Many watchers on one service process: memory, latency, and whether all get the terminal event."""
