"""What operators read of Redis' errors."""

import pytest
import redis.exceptions

from indexing import errors
from indexing.messaging import redis_connections, redis_errors, redis_sentinel

T = redis_errors.Trouble
CASES = [
    (redis.exceptions.AuthenticationError("invalid password", status_code="WRONGPASS"), T.LOGIN, "(WRONGPASS)"),
    (redis.exceptions.AuthenticationError("Authentication required.", status_code="NOAUTH"), T.LOGIN, "(NOAUTH)"),
    (
        redis.exceptions.NoPermissionError(
            "this user has no permissions to run the 'info' command", status_code="NOPERM"
        ),
        T.RIGHTS,
        "user may not run INFO (NOPERM)",
    ),
    (
        redis.exceptions.NoPermissionError("No permissions to access a key", status_code="NOPERM"),
        T.RIGHTS,
        "user may not use a key (NOPERM)",
    ),
    (
        redis.exceptions.ResponseError("ERR ACL failure in script: User x has no permissions to run the 'set' command"),
        T.RIGHTS,
        "user may not run SET (NOPERM)",
    ),
    (redis.exceptions.ReadOnlyError("You can't write", status_code="READONLY"), T.READONLY, "(READONLY)"),
    (redis_connections.NotPrimary("MASTERDOWN", "MASTERDOWN Link"), T.READONLY, "(MASTERDOWN)"),
    (redis.exceptions.ResponseError("ERR Error running script: -READONLY You"), T.READONLY, "(READONLY)"),
    (redis.exceptions.OutOfMemoryError("command not allowed", status_code="OOM"), T.FULL, "is full (OOM)"),
    (redis.exceptions.ResponseError("MISCONF Redis is configured to save"), T.DISK, "(MISCONF)"),
    (redis.exceptions.ResponseError("CROSSSLOT Keys in request don't hash"), T.CLUSTER, "Sentinel"),
    (redis.exceptions.TimeoutError("Timeout reading from r:1"), T.AWAY, "does not answer"),
    (TimeoutError(), T.AWAY, "does not answer"),
    (redis.exceptions.ConnectionError("Error 111 connecting to r:1. 111."), T.AWAY, "refuses connections"),
    (redis.exceptions.ConnectionError("Connection closed by server."), T.AWAY, "closes the connection"),
    (redis.exceptions.ConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version"), T.CERTIFICATE, "speak TLS"),
    (redis.exceptions.ResponseError("WRONGTYPE Operation"), T.OTHER, "failed (ResponseError)"),
    (redis.exceptions.DataError("None"), T.OTHER, "failed (DataError)"),
]


@pytest.mark.parametrize(("error", "trouble", "text"), CASES, ids=lambda value: str(value)[:30])
def test_an_error_keeps_its_word_when_it_is_diagnosed(
    error: Exception, trouble: redis_errors.Trouble, text: str
) -> None:
    """The kind decides about readiness, the text is what the operator reads."""
    found = redis_errors.diagnose(error)

    assert found.trouble is trouble
    assert text in found.text
    assert ("does not answer" in found.text) is (text == "does not answer")


def test_the_cause_is_diagnosed_when_a_client_wraps_it() -> None:
    """The connections of asyncio wrap what happens while they connect."""
    cause = redis_sentinel.PrimaryUnknown('Sentinel knows no primary "main"')
    wrapped = redis.exceptions.ConnectionError("something")
    wrapped.__cause__ = cause
    limiter = errors.LimiterUnavailable(1.0)
    limiter.__cause__ = wrapped

    assert redis_errors.diagnose(limiter).text == 'is not known: Sentinel knows no primary "main"'


def test_the_word_is_in_our_error_when_redis_refuses() -> None:
    """Callers and logs get it."""
    with pytest.raises(errors.QueueUnavailable, match=r"Redis is full \(OOM\)"), redis_errors.translated():
        raise redis.exceptions.OutOfMemoryError("command not allowed", status_code="OOM")


def test_every_word_has_a_diagnosis_when_a_connection_leaves_the_server_for_it() -> None:
    """The two tables belong together."""
    words = redis_connections.NOT_SERVING.pattern.partition("(")[2].partition(")")[0].split("|")

    assert set(words) <= set(redis_errors.WORDS)
