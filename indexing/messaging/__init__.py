"""Messaging between processes over Redis: turn queue, delayed turns, progress updates, coordination."""
