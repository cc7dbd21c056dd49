"""Joining starts per second of one service process, compared with an empty handler."""
