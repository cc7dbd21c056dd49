"""
The stores of the release before: one document for each channel, membership and guild task.

They write documents beside the rows, so that a migration needs to copy only what the release before has written, and
nothing is lost whenever a process learns that documents count. The package is deleted in the release after next.
"""
