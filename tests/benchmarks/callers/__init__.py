"""Two callers on one stack: what the light one notices of the heavy one."""
