"""The limiter's promises, checked over Redis and over the in-memory model."""
