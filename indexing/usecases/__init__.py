"""One file for each thing that a caller or the schedule wants done."""
