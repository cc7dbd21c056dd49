"""
Idempotent calls: the same request id of the same caller gets the same response for 24 hours.

The response is stored when the call has succeeded. Two concurrent calls with one id may both run; that is harmless,
because a second start joins the running job, and cancelling or putting twice has the effect of once. Only a keyed hash
of the request is stored, because a request may carry a token. The response is stored with the user whom it describes,
so that erasing the user erases it. A guild that the user has left since is left out of a repeated response.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf import message

from indexer_service import caller
from indexer_service.api import validate
from indexer_service.interceptors import base, request_context
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.domain import id_sets, ports

METHODS = {method.name for method in base.SERVICE.methods if "request_id" in method.input_type.fields_by_name}
"""Methods whose requests have a request id."""
WITHOUT_USER = {"DeleteUserData"}
"""Methods whose response says nothing about the user and must outlive them."""


class IdempotencyInterceptor(base.Interceptor):
    """
    Answers a repeated request id with the stored response.

    A call with an id costs one round trip before it and one after it; a call without an id costs none.
    """

    def __init__(
        self,
        store: ports.IdempotencyStore,
        keys: Sequence[bytes],
        clock: ports.Clock,
        memberships: Callable[[int], Awaitable[bytes]],
    ) -> None:
        """*memberships* returns the guilds of which a user is a member, packed by `id_sets`; the first key hashes."""
        self._store = store
        self._keys = keys
        self._clock = clock
        self._memberships = memberships

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Return a handler that is run once for each request id; *inner* itself for methods without one."""
        if method.name not in METHODS:
            return inner
        response_type = getattr(pb, f"{method.name}Response")

        async def call(request: Any, context: base.Context) -> message.Message | bytes:  # noqa: ANN401 -- any request
            try:
                request_id = validate.request_id("request_id", request.request_id)
            except errors.InvalidArgument:
                # The method refuses it too, together with the other wrong fields.
                request_id = ""
            if not request_id:
                return await inner(request, context)  # type: ignore[no-any-return]  # any response
            # The previous release stored the responses of all callers under the second key.
            keys = [f"{method.name}:{request_id}"]
            if name := caller.current().name:
                keys.insert(0, f"{name}:{keys[0]}")
            fingerprint, *others = self._fingerprints(request)
            stored = await self._store.find(keys)
            if stored is None:
                response: message.Message | bytes = await inner(request, context)
                body = response if isinstance(response, bytes) else response.SerializeToString()
                user_id = None if method.name in WITHOUT_USER else _user_of(request, response_type.FromString(body))
                await self._store.store(keys[0], ports.StoredResponse(fingerprint, body, user_id), self._clock())
                return response
            if not any(hmac.compare_digest(stored.fingerprint, each) for each in (fingerprint, *others)):
                raise errors.RequestIdReused
            replayed: message.Message = response_type.FromString(stored.response)
            await self._remove_left_guilds(replayed, stored.user_id)
            request_context.add_trailing(context, request_context.REPLAYED)
            return replayed

        return call

    async def _remove_left_guilds(self, response: Any, user_id: int | None) -> None:  # noqa: ANN401 -- any response
        """Remove guilds that the user is not a member of any more; one round trip for responses with guilds."""
        if "guilds" not in response.DESCRIPTOR.fields_by_name or not response.guilds:
            return
        present = await self._memberships(user_id) if user_id is not None else b""
        kept = [guild for guild in response.guilds if id_sets.has_id(present, int(guild.guild_id))]
        del response.guilds[:]
        response.guilds.extend(kept)

    def _fingerprints(self, request: message.Message) -> list[bytes]:
        """Return the hash of a request under each key."""
        body = request.SerializeToString(deterministic=True)
        return [hmac.digest(key, body, hashlib.sha256) for key in self._keys]


def _user_of(request: Any, response: Any) -> int | None:  # noqa: ANN401 -- any request, any response
    """Return the user whom a response describes: the request's, or the one of the job in it."""
    user_id = getattr(request, "user_id", "") or response.job.user_id
    return int(user_id) if user_id else None
