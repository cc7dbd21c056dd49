"""What a reader can take in at once."""

import pathlib

CHECKOUT = pathlib.Path(__file__).parents[2]
LONGEST = 350
"""Lines of a module that are not blank; 75 to 150 are aimed at."""


def test_modules_stay_short_when_they_grow() -> None:
    """One idea each; a longer one has two."""
    packages = ("indexing", "indexer_service", "workers", "indexer_client", "devstack", "deploy")
    modules = [path for name in packages for path in (CHECKOUT / name).rglob("*.py") if path.parent.name != "v1"]

    lengths = {path: sum(map(bool, map(str.strip, path.read_text("utf-8").splitlines()))) for path in modules}

    assert not {path.name: length for path, length in lengths.items() if length > LONGEST}
