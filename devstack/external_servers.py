"""Redis and MongoDB servers that the environment names, used instead of the stack's own."""

import contextlib
import time
import urllib.parse
from collections.abc import Callable

import pymongo
import pymongo.errors

from devstack import supervisor

TIMEOUT = 3.0
"""Seconds in which such a server must answer."""
POLL_INTERVAL = 0.1


def wait_until_reachable(variable: str, url: str, answers: Callable[[str], bool]) -> None:
    """
    Wait until the server answers.

    Raises:
        supervisor.StackFailed: The server does not answer. The message omits the URL's password.
    """
    deadline = time.monotonic() + TIMEOUT
    while not answers(url):
        if time.monotonic() > deadline:
            host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
            raise supervisor.StackFailed(
                f"{variable} is set, but {host} does not answer; unset it to start an own server"
            )
        time.sleep(POLL_INTERVAL)


def drop_database(url: str, name: str) -> None:
    """Drop the stack's database from an external MongoDB, if the server is reachable."""
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
        url, serverSelectionTimeoutMS=int(TIMEOUT * 1000)
    )
    with contextlib.suppress(pymongo.errors.PyMongoError), client:
        client.drop_database(name)
