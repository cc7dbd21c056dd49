"""Drills on a running fleet: losses that every job and every watcher must survive."""
