"""Measures the limiter against the simulator: how much of each budget is used, who waits how long, what it costs."""
