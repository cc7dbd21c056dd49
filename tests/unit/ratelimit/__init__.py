"""Proofs of the limiter by simulation, and its parts by themselves."""
