"""The shard keys that docs/scale.md names: MongoDB refuses a unique index that does not begin with the shard key."""

import pathlib
import re

import pytest

from indexing.store import migrations

ROOT = pathlib.Path(__file__).parents[3]
ROW = re.compile(r"^\| `(\w+)` \| (?:`(\w+)`( hashed)?)? *\| .*\| (yes)?", re.MULTILINE)
DECLARED = migrations.SHARED + migrations.OF_DOCUMENTS


def shard_keys() -> dict[str, str]:
    """Return the field by which each collection is sharded; empty for one that is kept whole."""
    page = (ROOT / "docs/scale.md").read_text("utf-8")
    table = page[page.index("## Shard keys") : page.index("## After one cell")]
    return {name: key for name, key, _, _ in ROW.findall(table)}


def refused(index: migrations.Index, key: str) -> bool:
    """Return whether a collection that is sharded by *key* refuses an index; uniqueness is what it cannot check."""
    return bool(index.options.get("unique")) and bool(key) and index.keys[0][0] != key


def collections() -> set[str]:
    """Return every collection that the code of the store names."""
    texts = [path.read_text("utf-8") for path in (ROOT / "indexing").rglob("*.py") if "rows" not in path.parts]
    named = {name for text in texts for name in re.findall(r"(?:db|database)\[\"(\w+)\"\]", text)}
    return named - {"channels", "memberships", "units"}


def test_every_collection_has_a_shard_key_or_is_kept_whole() -> None:
    """A collection that the page forgot would be found at the worst moment."""
    assert collections() | {"boot_check"} == set(shard_keys())


@pytest.mark.parametrize("index", DECLARED, ids=lambda index: f"{index.collection}-{index.name}")
def test_no_unique_index_is_refused_when_a_collection_is_sharded(index: migrations.Index) -> None:
    """Every declared index can be made on the collection that is sharded as the page says."""
    assert not refused(index, shard_keys()[index.collection])


def test_a_unique_index_is_refused_when_it_does_not_begin_with_the_shard_key() -> None:
    """One active job for each user cannot be guaranteed on jobs that are spread by their id."""
    (one_active,) = [index for index in DECLARED if index.options.get("unique")]

    assert refused(one_active, "_id")
    assert not refused(one_active, "user_id")
