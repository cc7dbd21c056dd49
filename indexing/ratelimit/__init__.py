"""Rate limits of calls to Discord, shared by all processes through Redis."""
