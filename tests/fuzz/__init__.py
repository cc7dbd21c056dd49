"""Fuzzing: random requests to the service, and mutated responses of Discord."""
