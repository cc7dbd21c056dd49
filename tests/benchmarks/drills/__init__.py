"""Losses played on a running fleet: what every job and every patient watcher must live through."""
