"""The cache that forgets."""

from devstack.simulator import lru_cache


def test_the_longest_unused_is_forgotten_when_room_runs_out() -> None:
    """What was asked for lately stays, what was not is made anew."""
    made: list[int] = []

    def maker(key: int) -> list[int]:
        made.append(key)
        return [key] * 4

    kept: lru_cache.LruCache[list[int]] = lru_cache.LruCache(10, len)
    for key in (1, 2, 1, 3, 1, 2):
        kept.get(key, lambda key=key: maker(key))  # type: ignore[misc]  # a default binds the loop's value

    assert made == [1, 2, 3, 2]


def test_a_large_thing_is_kept_when_it_alone_exceeds_the_room() -> None:
    """The newest thing is kept whatever it weighs."""
    kept: lru_cache.LruCache[list[int]] = lru_cache.LruCache(1, len)

    first = kept.get(1, lambda: [0] * 50)

    assert kept.get(1, list) is first


def test_a_thing_is_made_anew_when_it_was_dropped() -> None:
    """Dropping forgets at once, and dropping what is not there does nothing."""
    kept: lru_cache.LruCache[list[int]] = lru_cache.LruCache(10, len)
    first = kept.get(1, lambda: [1])

    kept.drop(1)
    kept.drop(2)

    assert kept.get(1, lambda: [2]) != first
