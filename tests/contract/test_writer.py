"""Conditional updates on a real server: sent in bulks, each with its own result, none lost or applied twice."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pymongo.errors
import pytest

from indexing import errors
from indexing.store import database as store_database
from indexing.store import writer

WRITES = {"update_one", "bulk_write"}


class Recording:
    """
    A collection that notes commands, and can fail.

    Attributes:
        commands: Method and number of statements or ids, in order.
        lost: Raised by the next writes after they were applied, one each.
        refused: Raised by the next writes before they are applied, one each.
        late: Raised by the next writes, one each, which `deliver` applies later.
    """

    def __init__(self, collection: store_database.Collection) -> None:
        self._collection = collection
        self.commands: list[tuple[str, int]] = []
        self.lost: list[Exception] = []
        self.refused: list[Exception] = []
        self.late: list[Exception] = []
        self._held: list[Callable[[], Awaitable[Any]]] = []

    def find(self, wanted: dict[str, Any], *more: Any) -> Any:  # noqa: ANN401 -- motor's
        """Record the command and run it."""
        self.commands.append(("find", len(wanted["_id"]["$in"])))
        return self._collection.find(wanted, *more)

    async def update_one(self, *given: Any) -> Any:  # noqa: ANN401 -- motor's
        """Note and write."""
        return await self._write("update_one", 1, given)

    async def bulk_write(self, statements: list[Any], *, ordered: bool) -> Any:  # noqa: ANN401 -- motor's
        """Note and write."""
        return await self._write("bulk_write", len(statements), (statements,), ordered=ordered)

    async def _write(self, method: str, count: int, given: Any, **named: Any) -> Any:  # noqa: ANN401 -- motor's
        self.commands.append((method, count))
        if self.refused:
            raise self.refused.pop(0)
        if self.late:
            self._held.append(lambda: getattr(self._collection, method)(*given, **named))
            raise self.late.pop(0)
        done = await getattr(self._collection, method)(*given, **named)
        if self.lost:
            raise self.lost.pop(0)
        return done

    async def deliver(self) -> None:
        """Apply the late writes."""
        for write in self._held:
            await write()

    async def documents(self) -> dict[int, dict[str, Any]]:
        """Return all documents without their marks, by id."""
        rows = await self._collection.find({}, {"by": 0}).to_list(None)
        return {row.pop("_id"): row for row in rows}


@pytest.fixture
async def things(database: store_database.Database, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Five documents with a number each; a write that fails is repeated at once, twice at most."""
    monkeypatch.setattr(writer, "PAUSES", (0.0, 0.0))
    await database["things"].insert_many([{"_id": number, "n": number} for number in range(1, 6)])
    return Recording(database["things"])


def set_to(number: int, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401 -- any value
    """Return a statement that sets fields of a document whatever it is."""
    return {"_id": number}, {"$set": fields}


def add(number: int, expected: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a statement that adds 10 to a document's number, if that is as expected."""
    wanted: dict[str, Any] = {"_id": number}
    return wanted if expected is None else {**wanted, "n": expected}, {"$inc": {"n": 10}}


async def written(
    things: Recording, statements: Iterable[tuple[dict[str, Any], dict[str, Any]]]
) -> list[bool | BaseException]:
    """Write statements that arrive together; returns what each caller learns."""
    one = writer.Writer(things, interval=0.0)
    return await asyncio.gather(*(one.update(*each) for each in statements), return_exceptions=True)


async def test_one_command_is_sent_when_one_statement_arrives(things: Recording) -> None:
    """Its result says whether it matched."""
    assert await written(things, [set_to(1, n=7)]) == [True]
    assert await written(things, [set_to(9, n=7)]) == [False]

    assert things.commands == [("update_one", 1), ("update_one", 1)]
    assert (await things.documents()).get(9) is None


async def test_one_bulk_is_sent_when_statements_arrive_together(things: Recording) -> None:
    """If all match, the bulk's result says so."""
    assert await written(things, [add(number) for number in range(1, 6)]) == [True] * 5

    assert things.commands == [("bulk_write", 5)]
    assert await things.documents() == {number: {"n": number + 10} for number in range(1, 6)}


async def test_each_caller_gets_its_own_result_when_some_of_a_bulk_did_not_match(things: Recording) -> None:
    """One more query tells them apart; a statement that did not match has changed nothing."""
    statements = [add(1, 1), add(2, 99), add(9), add(4, 4), set_to(5, n=5)]

    assert await written(things, statements) == [True, False, False, True, True]

    assert things.commands == [("bulk_write", 5), ("find", 5)]
    assert await things.documents() == {1: {"n": 11}, 2: {"n": 2}, 3: {"n": 3}, 4: {"n": 14}, 5: {"n": 5}}


async def test_only_the_statement_that_is_too_large_fails_when_a_bulk_has_one(things: Recording) -> None:
    """At once, with the store's own error: the driver's is no PyMongoError, and a retry would fail the same way."""
    statements = [add(1), set_to(2, text="x" * (17 << 20)), add(3)]

    first, second, third = await written(things, statements)

    assert (first, third) == (True, True)
    assert isinstance(second, errors.DocumentTooLarge)
    assert {number: row["n"] for number, row in (await things.documents()).items()} == {1: 11, 2: 2, 3: 13, 4: 4, 5: 5}


async def test_a_document_that_grows_too_large_is_refused_by_its_error(things: Recording) -> None:
    """Each statement is small enough to be sent; the server, or the driver, refuses their sum."""
    half = "x" * (9 << 20)
    assert await written(things, [set_to(2, first=half)]) == [True]

    (problem,) = await written(things, [set_to(2, second=half)])

    assert isinstance(problem, errors.DocumentTooLarge)


async def test_several_bulks_are_sent_when_there_are_more_statements_than_one_may_have(
    things: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order of arrival."""
    monkeypatch.setattr(writer, "MOST", 2)

    assert await written(things, [add(number) for number in range(1, 6)]) == [True] * 5

    assert things.commands == [("bulk_write", 2), ("bulk_write", 2), ("update_one", 1)]


async def test_the_second_statement_sees_the_first_when_both_are_for_one_document(things: Recording) -> None:
    """Its condition is checked afterwards, in a command of its own."""
    statements = [add(1, 1), add(1, 1), add(1, 11), add(2, 2)]

    assert await written(things, statements) == [True, False, True, True]

    assert (await things.documents())[1] == {"n": 21}


async def test_the_order_stays_when_a_later_statement_could_join_an_earlier_one(things: Recording) -> None:
    """It does not overtake the statement between them."""
    between = {"_id": 1}, {"$set": {"text": "second"}, "$inc": {"n": 1}}

    done = await written(things, [set_to(1, text="first"), between, set_to(1, text="third"), set_to(1, n=50)])

    assert done == [True] * 4
    assert (await things.documents())[1] == {"text": "third", "n": 50}


async def test_equal_conditions_share_one_statement_when_they_only_set_fields(things: Recording) -> None:
    """The last value of a field is stored; all match, or none."""
    match, none = {"_id": 1, "n": 1}, {"_id": 2, "n": 99}
    statements = [
        *((match, {"$set": {"a": 1, "b": 1}}), (none, {"$set": {"a": 1}})),
        *((match, {"$set": {"b": 2, "c": 2}}), (none, {"$set": {"a": 2}})),
        (match, {"$set": {"c": 3}}),
    ]

    assert await written(things, statements) == [True, False, True, False, True]

    assert things.commands == [("bulk_write", 2), ("find", 2)]
    assert (await things.documents())[1] == {"n": 1, "a": 1, "b": 2, "c": 3}


def set_in(guild: int, expected: int | None, **counts: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a statement like that of a user's roles: it requires and sets what belongs to one guild."""
    return {"_id": 1, f"at.{guild}": expected}, {"$set": {f"at.{guild}": 9, f"roles.{guild}": guild}, "$inc": counts}


async def test_independent_statements_for_one_document_share_a_command(things: Recording) -> None:
    """A far server would be asked for them one after the other. They make one version."""
    statements = [set_in(guild, None, version=1) for guild in (71, 72, 73)]

    assert await written(things, statements) == [True] * 3

    assert things.commands == [("update_one", 1)]
    assert (await things.documents())[1] == {
        "n": 1,
        "at": {"71": 9, "72": 9, "73": 9},
        "roles": {"71": 71, "72": 72, "73": 73},
        "version": 1,
    }


async def test_each_independent_statement_has_its_own_result_when_one_does_not_match(things: Recording) -> None:
    """They are sent again, each alone."""
    statements = [set_in(71, None), set_in(72, 5), set_in(73, None)]

    assert await written(things, statements) == [True, False, True]

    assert things.commands == [("update_one", 1)] * 4
    assert (await things.documents())[1]["roles"] == {"71": 71, "73": 73}


async def test_independent_statements_are_applied_once_when_their_response_is_lost(things: Recording) -> None:
    """The mark says that all of them were."""
    things.lost = [pymongo.errors.AutoReconnect("lost")]

    assert await written(things, [set_in(71, None, version=1), set_in(72, None, version=1)]) == [True, True]

    assert (await things.documents())[1]["version"] == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"at": {"71": 1}}, {"at.72": 1}),
        ({"at.72": 1}, {"at": {"71": 1}}),
        ({"at.72.x": 1}, {"at.72": 1}),
        ({"text": 1}, {"text": 2}),
    ],
    ids=["around", "within", "deeper", "same"],
)
async def test_statements_that_set_parts_of_one_field_are_sent_in_order(
    things: Recording, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """The server refuses an update with both, and the second is to win."""
    one, two = ({"_id": 1, "n": 1}, {"$set": first}), ({"_id": 1, "text": None}, {"$set": second})

    await written(things, [one, two])

    assert things.commands[:2] == [("update_one", 1)] * 2


@pytest.mark.parametrize(
    "second",
    [
        ({"_id": 1, "a": 1}, {"$set": {"b": 2}}),
        ({"_id": 1, "a.x": None}, {"$set": {"b": 2}}),
        ({"_id": 1, "version": 2}, {"$set": {"b": 2}}),
        ({"_id": 1, "n": 2}, {"$set": {"b": 2}}),
        ({"_id": 1}, {"$unset": {"b": ""}}),
        ({"_id": 1}, {"$inc": {"b": 2}}),
    ],
    ids=["requires", "requires-within", "version", "other-value", "unset", "count"],
)
async def test_a_statement_that_may_depend_on_another_is_sent_after_it(
    things: Recording, second: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """Its condition is checked afterwards."""
    await written(things, [({"_id": 1, "n": 1}, {"$set": {"a": 1}, "$inc": {"version": 1}}), second])

    assert things.commands[:2] == [("update_one", 1)] * 2


@pytest.mark.parametrize("between", [[], [{"text": "between"}]], ids=["next", "next-but-one"])
async def test_equal_conditions_are_not_merged_when_one_statement_changes_the_condition(
    things: Recording, between: list[dict[str, Any]]
) -> None:
    """The following statements do not match."""
    active = {"_id": 1, "n": 1}
    changes = [*between, {"n": 0, "ended": True}, {"text": "late"}, {"n": 1}]

    done = await written(things, [(active, {"$set": change}) for change in changes])

    assert done == [True] * (len(between) + 1) + [False, False]
    assert (await things.documents())[1] == {"n": 0, "ended": True, **(between[0] if between else {})}


AWAY = [
    pymongo.errors.AutoReconnect("closed"),
    pymongo.errors.NetworkTimeout("late"),
    pymongo.errors.NotPrimaryError("stepped down"),
    pymongo.errors.WTimeoutError("waiting for replication timed out", 64),
    pymongo.errors.BulkWriteError(
        {"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "timed out"}], "nMatched": 2}
    ),
]


@pytest.mark.parametrize("failure", AWAY, ids=lambda failure: type(failure).__name__)
async def test_a_bulk_is_repeated_when_it_failed(things: Recording, failure: Exception) -> None:
    """As a whole, until it is written; statements that do not match are reported as such."""
    things.refused = [failure, failure]

    assert await written(things, [add(1), add(2, 99)]) == [True, False]

    assert things.commands == [("bulk_write", 2)] * 3 + [("find", 2)]
    assert (await things.documents())[1] == {"n": 11}


@pytest.mark.parametrize("failure", AWAY, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in-a-bulk"])
async def test_a_statement_is_recognized_by_its_mark_when_only_its_response_was_lost(
    things: Recording,
    failure: Exception,
    alone: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Its own condition is false by then; it is neither applied again nor reported as unmatched."""
    things.lost = [failure]
    statements = [add(1, 1)] if alone else [add(1, 1), add(2, 99), set_to(3, n=7)]

    assert await written(things, statements) == ([True] if alone else [True, False, True])

    assert (await things.documents())[1] == {"n": 11}


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in-a-bulk"])
async def test_a_statement_is_applied_once_when_its_condition_still_holds_after_a_lost_response(
    things: Recording,
    alone: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A refusal would count twice otherwise."""
    things.lost = [pymongo.errors.AutoReconnect("closed"), pymongo.errors.AutoReconnect("closed")]

    assert await written(things, [add(number) for number in range(1, 2 if alone else 4)]) == [True] * (
        1 if alone else 3
    )

    assert [row["n"] for row in (await things.documents()).values()][: 1 if alone else 3] == (
        [11] if alone else [11, 12, 13]
    )


@pytest.mark.parametrize("failure", AWAY, ids=lambda failure: type(failure).__name__)
async def test_the_store_is_unavailable_when_no_attempt_succeeds(things: Recording, failure: Exception) -> None:
    """Every caller gets the error; an unconfirmed write counts as failed."""
    things.lost = [failure] * 3

    done = await written(things, [add(1), add(2)])

    assert [type(each) for each in done] == [errors.StoreUnavailable] * 2
    assert things.commands.count(("bulk_write", 2)) == 3


@pytest.mark.clockwork
async def test_a_failed_bulk_is_repeated_six_times_within_eight_seconds() -> None:
    """So long does data from Discord outlive a store that does not answer; each attempt is observed."""
    attempts: list[float] = []
    observed: list[float] = []

    class Away:
        async def update_one(self, *_: Any) -> None:  # noqa: ANN401 -- motor's
            attempts.append(asyncio.get_running_loop().time())
            message = "closed"
            raise pymongo.errors.AutoReconnect(message)

    with pytest.raises(errors.StoreUnavailable):
        await writer.Writer(Away(), observe=observed.append, interval=0.0).update(*add(1))

    assert [round(at - attempts[0], 3) for at in attempts] == [0.0, 0.05, 0.25, 0.75, 1.75, 3.75, 7.75]
    assert len(observed) == 7


async def test_only_new_versions_are_announced(things: Recording) -> None:
    """Of statements that were applied: other processes read those documents again."""
    announced: list[list[Any]] = []
    one = writer.Writer(things, interval=0.0, announce=lambda ids: announced.append(list(ids)))
    versioned = {"$inc": {"version": 1}}

    done = await asyncio.gather(
        one.update({"_id": 1}, versioned),
        one.update({"_id": 2, "n": 99}, versioned),
        one.update(*add(3)),
    )

    assert (list(done), announced) == ([True, False, True], [[1]])


async def test_the_next_statement_is_written_when_one_before_it_failed(things: Recording) -> None:
    """A writer continues after every failure."""
    one = writer.Writer(things, interval=0.0)
    things.refused = [pymongo.errors.AutoReconnect("closed")] * 3
    with pytest.raises(errors.StoreUnavailable):
        await one.update(*add(1))

    assert await one.update(*add(1))

    assert (await things.documents())[1] == {"n": 11}


async def test_one_process_succeeds_when_two_write_the_same_document(things: Recording) -> None:
    """Only one finds the expected number, and the document has that process's value."""
    ours, theirs = writer.Writer(things, interval=0.0), writer.Writer(things, interval=0.0)
    pairs = [
        await asyncio.gather(ours.update(*add(number, number)), theirs.update(*add(number, number)))
        for number in range(1, 6)
    ]

    assert [sorted(pair) for pair in pairs] == [[False, True]] * 5
    assert await things.documents() == {number: {"n": number + 10} for number in range(1, 6)}


async def test_an_ordered_statement_stays_when_an_older_one_arrives_late(things: Recording) -> None:
    """TCP may deliver a statement again long after its repetition was applied, and after a newer one."""
    one = writer.Writer(things, interval=0.0)
    things.late = [pymongo.errors.NetworkTimeout("no answer")]
    written = [await one.update(*set_to(1, n=n), ordered=True) for n in (7, 8)]

    await things.deliver()

    assert written == [True, True]
    assert (await things.documents())[1]["n"] == 8


async def test_an_owner_s_statements_are_applied_when_another_owner_wrote_more_before(things: Recording) -> None:
    """Each owner begins at 0."""
    busy, new = writer.Writer(things, interval=0.0), writer.Writer(things, interval=0.0)
    for n in range(5):
        await busy.update(*set_to(1, n=n), ordered=True)

    await new.update(*set_to(1, **{writer.STEP: 0}))

    assert await new.update(*set_to(1, n=77), ordered=True)
    assert (await things.documents())[1]["n"] == 77
