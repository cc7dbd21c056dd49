"""The tree of failures."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import pytest

import indexer_service
import indexing
from indexing import errors


def all_exceptions() -> Iterator[type[BaseException]]:
    """Yield every exception class that core and service define."""
    for package in (indexing, indexer_service):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith("__main__"):
                continue
            module = importlib.import_module(info.name)
            for _, found in inspect.getmembers(module, inspect.isclass):
                if issubclass(found, BaseException) and found.__module__ == info.name:
                    yield found


@pytest.mark.parametrize("found", sorted(set(all_exceptions()), key=str), ids=lambda found: found.__qualname__)
def test_no_vendor_stands_among_the_parents_when_an_error_is_ours(found: type[BaseException]) -> None:
    """
    A handler of our errors needs no vendor's package, and a handler of a vendor's errors catches none of ours.

    Except the errors of our own connection classes, which redis-py handles and which the client translates.
    """
    if found.__module__ in {"indexing.messaging.redis_connections", "indexing.messaging.redis_sentinel"}:
        return
    packages = {parent.__module__.partition(".")[0] for parent in found.__mro__}

    assert packages <= {"builtins", "indexing", "indexer_service"}


def test_every_error_has_a_reason_of_its_own_when_it_crosses_packages() -> None:
    """A reason is a constant that stands in logs, rows and answers, so two failures must not share one."""
    tree = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, errors.IndexerError)]

    reasons = [found.reason for found in tree]

    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z][A-Z_]+", reason) for reason in reasons)
