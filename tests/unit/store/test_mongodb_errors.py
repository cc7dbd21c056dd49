"""Errors of MongoDB in an operator's words."""

import pymongo.errors
import pytest

from indexing.store import mongodb_errors
from indexing.store.mongodb_errors import Trouble

SELECTION = pymongo.errors.ServerSelectionTimeoutError
TLS = (
    "db:27017: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate "
    "(_ssl.c:1006) (configured timeouts: socketTimeoutMS: 20000.0ms), Timeout: 2.0s"
)
UNKNOWN_SINCE = (
    "not primary, full error: {'ok': 0.0, 'errmsg': 'not primary', 'code': 10107, 'codeName': 'NotWritablePrimary'}, "
    "Timeout: 1.599s, Topology Description: <TopologyDescription id: 6a, topology_type: Single>"
)
"""The driver's words while it waits for the next heartbeat of a server that has refused a write."""
NEVER_SENT = (
    "operation would exceed time limit, remaining timeout:-0.39081 <= network round trip time:0.00061 "
    "(configured timeouts: timeoutMS: 2000.0ms, connectTimeoutMS: 20000.0ms)"
)
"""The driver's words when it had no server until the time was over."""
DENIED = 'not authorized on indexer to execute command { find: "users", filter: { _id: 806171784905752576 } }'
CASES = {
    "refused": (
        SELECTION("127.0.0.1:1: [Errno 111] Connection refused, Timeout: 2.0s"),
        Trouble.AWAY,
        "refuses connections",
    ),
    "silent": (SELECTION("db:27017: timed out, Timeout: 2.0s"), Trouble.AWAY, "does not answer"),
    "name": (
        SELECTION("db:27017: [Errno -2] Name or service not known, Timeout: 2.0s"),
        Trouble.AWAY,
        "has an unknown host name",
    ),
    "no primary": (
        SELECTION('No replica set members match selector "Primary()", Timeout: 2.0s'),
        Trouble.READONLY,
        "has no primary",
    ),
    "no primary since the server said so": (
        SELECTION(UNKNOWN_SINCE),
        Trouble.READONLY,
        "has no primary that accepts writes (NotWritablePrimary)",
    ),
    "certificate": (
        SELECTION(TLS),
        Trouble.CERTIFICATE,
        "certificate not accepted: unable to get local issuer certificate",
    ),
    "plain to TLS": (SELECTION("db:27017: connection closed"), Trouble.AWAY, "closes the connection (TLS?)"),
    "password": (
        pymongo.errors.OperationFailure("Authentication failed.", 18),
        Trouble.LOGIN,
        "refuses the login (AuthenticationFailed)",
    ),
    "rights": (
        pymongo.errors.OperationFailure(DENIED, 13, {"code": 13, "errmsg": DENIED}),
        Trouble.RIGHTS,
        "user may not run find (Unauthorized)",
    ),
    "secondary": (
        pymongo.errors.NotPrimaryError("not primary", {"code": 10107}),
        Trouble.READONLY,
        "has no primary that accepts writes (NotWritablePrimary)",
    ),
    "old": (
        pymongo.errors.ConfigurationError(
            "Server at db:27017 reports wire version 7, but this version of PyMongo requires at least 8 (MongoDB 4.2)."
        ),
        Trouble.UNSUPPORTED,
        "is too old: 4.4 or newer is needed",
    ),
    "feature": (
        pymongo.errors.OperationFailure("Command getLog is not implemented", 238),
        Trouble.UNSUPPORTED,
        "lacks a feature (NotImplemented)",
    ),
    "disk": (
        pymongo.errors.WriteError("No space left", 14031),
        Trouble.FULL,
        "has no disk space left (OutOfDiskSpace)",
    ),
    "slow": (
        pymongo.errors.ExecutionTimeout("operation exceeded time limit", 50),
        Trouble.AWAY,
        "is too slow (MaxTimeMSExpired)",
    ),
    "never sent": (
        pymongo.errors.ExecutionTimeout(NEVER_SENT, 50, {"ok": 0, "errmsg": NEVER_SENT, "code": 50}),
        Trouble.AWAY,
        "was not ready in time",
    ),
    "within a bulk": (
        pymongo.errors.BulkWriteError({"writeErrors": [{"index": 0, "code": 13, "errmsg": "not authorized"}]}),
        Trouble.RIGHTS,
        "user may not run a command (Unauthorized)",
    ),
    "unknown": (
        pymongo.errors.OperationFailure("secret document", 43, {"code": 43, "codeName": "CursorNotFound"}),
        Trouble.OTHER,
        "failed (CursorNotFound 43)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_is_named_by_its_kind(case: str) -> None:
    """In the server's own word; "does not answer" is said only of what is silent. No text holds a document."""
    error, trouble, text = CASES[case]

    assert mongodb_errors.diagnose(error) == mongodb_errors.Diagnosis(trouble, text)
