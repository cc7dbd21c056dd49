"""One question for many who ask at the same time."""

import asyncio

import pytest

from indexing import concurrency, errors

pytestmark = pytest.mark.clockwork
SECOND = 1.0


class Oracle:
    """Answers each item with its double, a second later; remembers the questions."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.away = False

    async def ask(self, items: list[int]) -> dict[int, int]:
        """Answer."""
        self.asked.append(items)
        await asyncio.sleep(SECOND)
        if self.away:
            raise errors.QueueUnavailable("played")
        return {item: 2 * item for item in items}


async def ask(crowd: concurrency.Coalescer[int, int], item: int, *, after: float = 0.0) -> int:
    """Ask for one item some time from now."""
    await asyncio.sleep(after)
    return (await asyncio.shield(crowd.request(item)))[item]


async def test_everybody_gets_his_answer_when_many_ask_at_once() -> None:
    """With one question for who is there, and one for who comes while it is under way; each item once."""
    oracle = Oracle()
    crowd = concurrency.Coalescer(oracle.ask)

    early = [ask(crowd, item) for item in (1, 2, 3, 2)]
    late = [ask(crowd, item, after=SECOND / 2) for item in (4, 1, 4)]
    answers = await asyncio.gather(*early, *late)

    assert answers == [2, 4, 6, 4, 8, 2, 8]
    assert oracle.asked == [[1, 2, 3], [4, 1]]


async def test_more_share_a_question_when_it_may_be_late() -> None:
    """Those who come within the time for gathering."""
    oracle = Oracle()
    crowd = concurrency.Coalescer(oracle.ask, linger=SECOND)

    await asyncio.gather(*(ask(crowd, item, after=item * 0.3) for item in range(4)))

    assert oracle.asked == [[0, 1, 2, 3]]


async def test_the_failure_is_everybodys_when_the_question_fails() -> None:
    """And the next question is asked anew."""
    oracle = Oracle()
    crowd = concurrency.Coalescer(oracle.ask)
    oracle.away = True
    told = await asyncio.gather(ask(crowd, 1), ask(crowd, 2), return_exceptions=True)

    oracle.away = False

    assert [type(problem) for problem in told] == [errors.QueueUnavailable] * 2
    assert await ask(crowd, 1) == 2


async def test_the_others_get_their_answers_when_one_leaves() -> None:
    """Even when it is the one who came first."""
    crowd = concurrency.Coalescer(Oracle().ask)
    askers = [asyncio.create_task(ask(crowd, item)) for item in (1, 2)]
    await asyncio.sleep(SECOND / 2)

    askers[0].cancel()

    assert await askers[1] == 4
