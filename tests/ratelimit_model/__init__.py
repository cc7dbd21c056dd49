"""The limiter's script in Python and in memory: the model that the script is compared with."""
