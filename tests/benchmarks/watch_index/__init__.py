"""Streams of what users may see, on one service process: time from a stored change to its arrival."""
