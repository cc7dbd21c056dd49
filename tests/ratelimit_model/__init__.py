"""The limiter's script in Python and in memory: tests run against it, and compare the script with it."""
