"""What processes tell each other through Redis: turns, due times, progress; the only door to Redis and Dramatiq."""
