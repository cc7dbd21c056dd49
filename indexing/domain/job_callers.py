"""The callers of a job: those that asked for it, whose turns its work takes."""

import dataclasses

from indexing.domain import model

MOST_CALLERS = 8
"""Callers that a job names. The calls of a job with several take the turn of the one that is due first, so a caller
that joins can only make the job faster."""


def lacks(job: model.Job, caller: str) -> bool:
    """Return whether *caller*, which asks for the job too, is to be stored with it."""
    return bool(caller) and caller not in job.callers and len(job.callers) < MOST_CALLERS


def with_caller(job: model.Job, caller: str) -> model.Job:
    """Return the job as *caller* asks for it; an empty name changes nothing."""
    return dataclasses.replace(job, callers=(*job.callers, caller)) if lacks(job, caller) else job
