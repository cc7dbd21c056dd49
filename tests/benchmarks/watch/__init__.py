"""Very many watchers on one service process: their memory, how late they hear, and whether all see the end."""
