"""The only door to MongoDB."""
