"""Each invariant holds for a good run, and fails for one deliberate break of it."""

import collections
import dataclasses

import pytest

from devstack.simulator import models
from indexer_service.v1 import indexer_pb2 as pb
from tests.chaos import callers, invariants

BOT = models.Limit(5, 1.0)
ROWS = {"7": callers.Row("SUCCEEDED", "", 3)}
VIEW = invariants.View(
    moment="after", user_id="1", guild_id="7", shown={"a"}, visible={"a", "b"}, wanted={"a"}, exact=True
)


def watched(
    state: str = "SUCCEEDED", rows: dict[str, callers.Row] | None = None, back: list[str] | None = None
) -> callers.Watched:
    """Return what a watcher of a good job received, except for what is given."""
    return callers.Watched("job", state, total=1, rows=dict(ROWS) if rows is None else rows, back=back or [])


def calls(*moments: float) -> list[invariants.Arrival]:
    """Return calls with the bot's token at these times."""
    return [invariants.Arrival(moment, "bot", "GET /users/@me", "", 200) for moment in moments]


def good() -> invariants.Seen:
    """Return what is seen of a run in which everything holds."""
    return invariants.Seen(
        limits={"bot": BOT, "user": BOT},
        arrivals=calls(0.0, 0.2, 0.4, 0.6, 0.8, 2.0),
        refused={"global": {"wall": 0, "gcra": 0}},
        jobs={"job": "1"},
        stored={"job": ("SUCCEEDED", 0)},
        watched=[watched()],
        views=[VIEW],
        fetches=[invariants.Fetches("7", 2, 2)],
        growth=[invariants.Growth("MiB of worker-1", 100.0, 110.0, 16.0)],
        processes=4,
    )


def test_all_invariants_hold_when_a_run_is_good() -> None:
    """Each has checked something."""
    verdicts = {name: check(good()) for name, check in invariants.INVARIANTS.items()}

    assert {name: verdict.failures for name, verdict in verdicts.items()} == {name: [] for name in verdicts}
    assert {name: verdict.checked for name, verdict in verdicts.items()} == {
        "I1": 6,
        "I2": 1,
        "I3": 1,
        "I4": 1,
        "I5": 1,
        "I6": 1,
        "I7": 5,
    }


def test_calls_whose_token_is_not_read_are_of_no_user() -> None:
    """Six in a second, which a user's limit would not allow, are those of several tokens."""
    seen = good()
    seen.arrivals = [one._replace(who="unresolved") for one in calls(0.0, 0.2, 0.4, 0.6, 0.8, 0.9)]

    assert invariants.never_over_a_limit(seen) == (6, [])


BREAKS = [
    ("I1", {"arrivals": calls(0.0, 0.2, 0.4, 0.6, 0.8, 0.9)}, "calls of bot exceed 5 per 1 s"),
    ("I1", {"refused": {"route": {"wall": 0, "gcra": 2}}}, "2 calls exceed the budget of class route"),
    ("I1", {"unplanned_429": 1}, "1 unexpected 429"),
    ("I2", {"stored": {}}, "job job is LOST"),
    ("I2", {"stored": {"job": ("RUNNING", 0)}}, "job job is RUNNING"),
    ("I2", {"stored": {"job": ("SUCCEEDED", 3)}}, "3 open guild tasks"),
    ("I2", {"watched": [watched(back=["guild 7: SUCCEEDED -> RUNNING"])]}, "SUCCEEDED -> RUNNING"),
    ("I2", {"problems": collections.Counter({"StartIndexing: NOT_FOUND": 17})}, "17 x StartIndexing: NOT_FOUND"),
    ("I3", {"views": [dataclasses.replace(VIEW, shown=set())]}, "1 channels missing, 0 more"),
    ("I3", {"views": [dataclasses.replace(VIEW, shown={"a", "b"})]}, "0 channels missing, 1 more"),
    ("I4", {"views": [dataclasses.replace(VIEW, shown={"a", "c"}, exact=False)]}, "is shown 1 hidden channels"),
    ("I5", {"watched": [watched(state="NEVER_SEEN")]}, "sees NEVER_SEEN in place of SUCCEEDED"),
    ("I5", {"watched": [watched(rows={"7": callers.Row("RUNNING", "", 3)})]}, "sees 1 open guilds"),
    ("I5", {"watched": [watched(rows={})]}, "sees 0 of 1 guilds"),
    ("I6", {"fetches": [invariants.Fetches("7", 3, 2)]}, "fetched 3 times, 2 are allowed"),
    ("I7", {"crashes": ["worker-1 was killed by SIGSEGV"]}, "crashed: worker-1"),
    ("I7", {"late": ["service-1 is still running after 12 s"]}, "did not drain: service-1"),
    ("I7", {"growth": [invariants.Growth("MiB of worker-1", 100.0, 117.0, 16.0)]}, "grows from 100 to 117"),
]


@pytest.mark.parametrize(("name", "change", "says"), BREAKS, ids=[f"{name}-{says}" for name, _, says in BREAKS])
def test_an_invariant_fails_when_it_is_broken(name: str, change: dict[str, object], says: str) -> None:
    """The text names the fact."""
    seen = good()
    for field, value in change.items():
        setattr(seen, field, value)

    failures = invariants.INVARIANTS[name](seen).failures

    assert [says in line for line in failures] == [True]


def test_a_row_that_leaves_its_final_state_is_noted() -> None:
    """Older revisions are ignored, as callers do."""
    seen = watched()

    for revision in (2, 4):
        seen.add(pb.JobGuild(guild_id="7", state=pb.GUILD_STATE_RUNNING, revision=revision))

    assert seen.back == ["guild 7: SUCCEEDED -> RUNNING"]
