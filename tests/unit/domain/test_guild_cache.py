"""A bounded cache of values by guild that drops the least recently used first."""

from indexing.domain import guild_cache


def filled(*guild_ids: int, most: int = 30) -> guild_cache.GuildCache[str]:
    """Return a cache with a value of 10 bytes for each guild."""
    cache: guild_cache.GuildCache[str] = guild_cache.GuildCache(most)
    for guild_id in guild_ids:
        cache.put(guild_id, f"of {guild_id}", size=10)
    return cache


def kept(cache: guild_cache.GuildCache[str], *guild_ids: int) -> list[int]:
    """Return the guilds that are cached; the lookup counts as use."""
    return [guild_id for guild_id in guild_ids if cache.get(guild_id) is not None]


def test_a_value_is_returned_when_it_was_put() -> None:
    """Nothing else is."""
    cache = filled(1)

    assert (cache.get(1), cache.get(2)) == ("of 1", None)


def test_all_are_kept_when_they_just_fit() -> None:
    """The bound is inclusive."""
    assert kept(filled(1, 2, 3), 1, 2, 3) == [1, 2, 3]


def test_the_oldest_values_are_dropped_when_none_was_used_since() -> None:
    """As many as needed."""
    cache = filled(1, 2, 3)

    cache.put(4, "of 4", size=15)

    assert kept(cache, 1, 2, 3, 4) == [3, 4]
    assert cache.bytes == 25


def test_the_least_recently_used_is_dropped_when_others_were_read() -> None:
    """A read counts as use, and so does a repeated put."""
    cache = filled(1, 2, 3)
    cache.get(1)
    cache.put(2, "of 2", size=10)

    cache.put(4, "of 4", size=10)

    assert kept(cache, 1, 2, 3, 4) == [1, 2, 4]


def test_a_value_replaces_the_older_one_when_it_is_put_again() -> None:
    """With its own size."""
    cache = filled(1, 2)

    cache.put(1, "new", size=20)
    cache.put(1, "newer", size=5)

    assert (cache.get(1), cache.get(2), cache.bytes) == ("newer", "of 2", 15)


def test_a_value_is_kept_alone_when_it_is_larger_than_the_bound() -> None:
    """Until the next one: otherwise no page of that guild could be built."""
    cache = filled(1, 2)

    cache.put(3, "of 3", size=1_000)
    alone = kept(cache, 1, 2, 3)
    cache.put(4, "of 4", size=10)

    assert alone == [3]
    assert kept(cache, 3, 4) == [4]
    assert cache.bytes == 10


def test_nothing_is_left_when_a_guild_is_dropped() -> None:
    """A second time there is nothing to drop."""
    cache = filled(1, 2)

    for _ in range(2):
        cache.drop(1)

    assert kept(cache, 1, 2) == [2]
    assert cache.bytes == 10


def test_every_value_that_leaves_is_told_and_only_lack_of_room_is_counted() -> None:
    """A replaced value leaves too."""
    left: list[tuple[int, str]] = []
    cache: guild_cache.GuildCache[str] = guild_cache.GuildCache(20, lambda *dropped: left.append(dropped))
    for guild_id in (1, 2, 2, 3):
        cache.put(guild_id, f"of {guild_id}", size=10)
    cache.drop(3)

    assert left == [(2, "of 2"), (1, "of 1"), (3, "of 3")]
    assert cache.evictions == 1


def test_a_guild_is_dropped_for_every_one_that_does_not_fit() -> None:
    """The bound holds after each put, and each drop is counted."""
    cache = filled(1, 2, 3, 4, 5)

    assert kept(cache, 1, 2, 3, 4, 5) == [3, 4, 5]
    assert (cache.bytes, cache.evictions) == (30, 2)
