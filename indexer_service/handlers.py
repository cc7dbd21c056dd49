"""What interceptors do with gRPC's handlers: wrap each once, and let bytes pass."""

from collections.abc import Callable
from typing import Any


class Wrapped:
    """
    What an interceptor has made of each method's handler.

    gRPC asks interceptors anew for every call; wrapping anew each time costs as much as the rest of a short call.
    """

    def __init__(self, wrap: Callable[[str, Any], Any]) -> None:
        self._wrap = wrap
        self._made: dict[str, tuple[Any, Any]] = {}

    def get(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        """Return *handler* wrapped; the same as before while *handler* is the same."""
        made = self._made.get(method)
        if made is not None and made[0] is handler:
            return made[1]
        wrapped = self._wrap(method, handler)
        if handler is not None:
            # Only methods that exist are kept: their number is bounded, that of made-up names is not.
            self._made[method] = handler, wrapped
        return wrapped


def passing(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a serializer that leaves alone what its handler has serialised already."""
    return lambda answer: answer if type(answer) is bytes else serialize(answer)
