"""Where to connect to the Gateway, and how often: the answer of GET /gateway/bot."""

import msgspec

from indexing.discord import bounds, payloads


class StartLimit(msgspec.Struct):
    """How many sessions may be started (developers/events/gateway.mdx, Session Start Limit Object)."""

    total: bounds.Identifies
    remaining: bounds.Identifies
    max_concurrency: bounds.Shards


class GatewayInfo(msgspec.Struct):
    """The answer of GET /gateway/bot."""

    url: str
    shards: bounds.Shards
    session_start_limit: StartLimit


_DECODER = msgspec.json.Decoder(GatewayInfo)


def decode(body: payloads.Body, _: payloads.Unreadable | None = None) -> GatewayInfo:
    """Return the answer of GET /gateway/bot. Raises ValueError when it is none."""
    return _DECODER.decode(body)
