"""
The caller of the RPC that runs: noted by the authentication, read by the methods.

A context variable, because gRPC's context carries nothing from an interceptor to a method. Use cases get the name as an
argument.
"""

import contextvars
from typing import NamedTuple


class Caller(NamedTuple):
    """
    A calling service.

    Attributes:
        name: As in the tokens file; empty when callers are not authenticated.
        peers: Callers in that file that may call the same method, this one included. Each of them has a share.
    """

    name: str = ""
    peers: int = 1


UNNAMED = Caller()
_CURRENT: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller", default=UNNAMED)

current = _CURRENT.get
"""Return the caller of the RPC whose task runs."""
note = _CURRENT.set
"""Note the caller; each RPC is a task with a context of its own."""
