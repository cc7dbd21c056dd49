"""The methods that find single guilds and channels, check many ids, and search."""

from collections.abc import Sequence
from typing import Any

from indexer_service.api import validate
from indexer_service.v1 import indexer_pb2 as pb
from indexing.usecases import find_channels, search_channels

MOST_IDS = 1_000
MOST_FOUND = 50
DEFAULT_FOUND = 20


class Lookups:
    """
    Part of `servicer.Servicer`. Responses are joined from encoded rows: a message is the sum of its parts.

    A single guild or channel stands in field 1 of its response, like the rows of a list.
    """

    _find: find_channels.FindChannels
    _search: search_channels.SearchChannels

    async def GetGuild(self, request: pb.GetGuildRequest, context: object) -> bytes:
        """Return one of the user's guilds."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            guild_id = check(validate.snowflake, "guild_id", request.guild_id)
            max_age = check(validate.max_age, age_of(request))
        found = await self._find.get_guild(user_id, guild_id, max_age=max_age)
        return joined(found.rows, pb.GetGuildResponse(outdated_guild_ids=map(str, found.outdated)))

    async def GetChannel(self, request: pb.GetChannelRequest, context: object) -> bytes:
        """Return one channel that the user may see."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            check(validate.snowflake, "channel_id", request.channel_id)
            max_age = check(validate.max_age, age_of(request))
        found = await self._find.get_channel(user_id, request.channel_id, max_age=max_age)
        return joined(found.rows, pb.GetChannelResponse(outdated_guild_ids=map(str, found.outdated)))

    async def BatchGetChannels(self, request: pb.BatchGetChannelsRequest, context: object) -> bytes:
        """Return those of the channels that the user may see."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            channel_ids = check(validate.ids_as_text, "channel_ids", request.channel_ids, most=MOST_IDS)
            max_age = check(validate.max_age, age_of(request))
        found = await self._find.check(user_id, channel_ids, max_age=max_age)
        rest = pb.BatchGetChannelsResponse(
            missing_channel_ids=found.missing, outdated_guild_ids=map(str, found.outdated)
        )
        return joined(found.rows, rest)

    async def SearchChannels(self, request: pb.SearchChannelsRequest, context: object) -> bytes:
        """Return the channels whose names match best."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            query = check(validate.text, "query", request.query, least=1, most=100)
            size = check(validate.page_size, request.page_size, default=DEFAULT_FOUND, most=MOST_FOUND)
            max_age = check(validate.max_age, age_of(request))
        found = await self._search.search(user_id, query, limit=size, max_age=max_age)
        return joined(found.rows, pb.SearchChannelsResponse(outdated_guild_ids=map(str, found.outdated)))


def age_of(request: Any) -> Any:  # noqa: ANN401 -- any request with a max_age
    """Return the field max_age, None when it is not set."""
    return request.max_age if request.HasField("max_age") else None


def joined(rows: Sequence[bytes], rest: Any) -> bytes:  # noqa: ANN401 -- any response
    """Return an encoded response from encoded rows and its other fields."""
    return b"".join(rows) + rest.SerializeToString()  # type: ignore[no-any-return]  # bytes
