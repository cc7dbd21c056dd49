"""The size-bounded LRU cache."""

from devstack.simulator import lru_cache


def test_the_least_recently_used_is_evicted_when_the_cache_is_full() -> None:
    """Recently used values stay, others are made again."""
    made: list[int] = []

    def maker(key: int) -> list[int]:
        made.append(key)
        return [key] * 4

    kept: lru_cache.LruCache[list[int]] = lru_cache.LruCache(10, len)
    for key in (1, 2, 1, 3, 1, 2):
        kept.get(key, lambda key=key: maker(key))  # type: ignore[misc]  # a default binds the loop's value

    assert made == [1, 2, 3, 2]


def test_a_value_is_kept_when_it_alone_exceeds_the_size() -> None:
    """The newest value is kept at any size."""
    kept: lru_cache.LruCache[list[int]] = lru_cache.LruCache(1, len)

    first = kept.get(1, lambda: [0] * 50)

    assert kept.get(1, list) is first


def test_a_value_is_made_again_when_it_was_dropped() -> None:
    """Dropping removes a value at once; dropping a missing key does nothing."""
    kept: lru_cache.LruCache[list[int]] = lru_cache.LruCache(10, len)
    first = kept.get(1, lambda: [1])

    kept.drop(1)
    kept.drop(2)

    assert kept.get(1, lambda: [2]) != first
