"""Discord's endpoints: each returns the reply to an admitted call."""

from collections.abc import Callable, Mapping

import msgspec

from devstack.simulator import calls, guilds, lru_cache, payloads, permissions, replies, routes, visibility, world

BYTES_IN_MEMORY = 48 * 2**20
"""Size of the cache of encoded channel lists."""

PAGE = 200
"""Largest and default page size of guild lists (developers/resources/user.mdx, read 2026-08-06)."""

_TRUE = frozenset({"true", "True", "1"})
_FALSE = frozenset({"false", "False", "0"})


class Api:
    """Replies from the current state of the world."""

    def __init__(self, simulated: world.World) -> None:
        self._world = simulated
        self._lists: lru_cache.LruCache[tuple[int, bytes]] = lru_cache.LruCache(
            BYTES_IN_MEMORY, lambda kept: len(kept[1])
        )
        self.handlers: Mapping[str, Callable[[calls.Call], replies.Reply]] = {
            routes.USER: self.user,
            routes.USER_GUILDS: self.user_guilds,
            routes.OWN_MEMBER: self.own_member,
            routes.GUILD_CHANNELS: self.guild_channels,
            routes.GUILD_MEMBER: self.guild_member,
        }

    def user(self, call: calls.Call) -> replies.Reply:
        """`GET /users/@me`: the user or the bot behind the token."""
        return replies.json_reply(self._user(self._caller(call)))

    def user_guilds(self, call: calls.Call) -> replies.Reply:
        """`GET /users/@me/guilds`: one page of the caller's guilds, by ascending id."""
        limit = _number(call, "limit", PAGE)
        if not 1 <= limit <= PAGE:
            raise replies.Refused(
                replies.invalid_form_body("limit", "NUMBER_TYPE_RANGE", f"int value should be 1 to {PAGE}.")
            )
        after, before = _number(call, "after", 0), _number(call, "before", 1 << 64)
        counts = _flag(call, "with_counts")
        caller = self._caller(call)
        ids = self._guild_ids(caller, after, before)
        page = ids[-limit:] if "before" in call.query and "after" not in call.query else ids[:limit]
        return replies.json_reply([self._partial(guild_id, caller, counts=counts) for guild_id in page])

    def own_member(self, call: calls.Call) -> replies.Reply:
        """`GET /users/@me/guilds/{guild.id}/member`: the caller as a member."""
        guild = self._world.guild(call.guild_id)
        if guild is None or not self._world.is_member(self._caller(call), guild.id):
            raise replies.Refused(replies.error_reply(404, 10004, "Unknown Guild"))
        return self._member(self._caller(call), guild)

    def guild_member(self, call: calls.Call) -> replies.Reply:
        """`GET /guilds/{guild.id}/members/{user.id}`: any member, for the bot."""
        guild = self._guild_with_bot(call.guild_id)
        if self._world.user_name(call.user_id) is None:
            raise replies.Refused(replies.error_reply(404, 10013, "Unknown User"))
        if not self._world.is_member(call.user_id, guild.id):
            raise replies.Refused(replies.error_reply(404, 10007, "Unknown Member"))
        return self._member(call.user_id, guild)

    def guild_channels(self, call: calls.Call) -> replies.Reply:
        """`GET /guilds/{guild.id}/channels`: channels visible to the bot, no threads (change log of 2026-08-12)."""
        guild = self._guild_with_bot(call.guild_id)
        version, body = self._lists.get(guild.id, lambda: (guild.version, self._channel_list(guild)))
        if version != guild.version:
            self._lists.drop(guild.id)
            _, body = self._lists.get(guild.id, lambda: (guild.version, self._channel_list(guild)))
        return replies.Reply(200, body)

    def _channel_list(self, guild: guilds.Guild) -> bytes:
        seen = visibility.visible_channels(self._world, guild, self._world.bot_id)
        return msgspec.json.encode([payloads.channel(channel, guild.id) for channel in seen])

    def _caller(self, call: calls.Call) -> int:
        return call.identity.user_id if call.identity and call.identity.kind == "bearer" else self._world.bot_id

    def _user(self, user_id: int) -> payloads.Json:
        if user_id == self._world.bot_id:
            return payloads.user(user_id, "indexer", bot=True)
        return payloads.user(user_id, self._world.user_name(user_id) or "")

    def _guild_ids(self, caller: int, after: int, before: int) -> list[int]:
        if caller == self._world.bot_id:
            return list(self._world.bot_guilds_between(after, before))
        return [guild_id for guild_id in self._world.guilds_of(caller) if after < guild_id < before]

    def _partial(self, guild_id: int, caller: int, *, counts: bool) -> payloads.Json:
        guild = self._world.guild(guild_id)
        assert guild is not None
        viewer = self._world.viewer(caller, guild) or permissions.Viewer(caller, guild_id)
        return payloads.partial_guild(guild, viewer, counts=counts)

    def _guild_with_bot(self, guild_id: int) -> guilds.Guild:
        guild = self._world.guild(guild_id)
        if guild is None:
            raise replies.Refused(replies.error_reply(404, 10004, "Unknown Guild"))
        if not guild.has_bot:
            raise replies.Refused(replies.error_reply(403, 50001, "Missing Access"))
        return guild

    def _member(self, user_id: int, guild: guilds.Guild) -> replies.Reply:
        found = self._world.member(user_id, guild)
        assert found is not None
        return replies.json_reply(payloads.member(found, self._user(user_id), now_ms=self._world.spec.now_ms))


def _number(call: calls.Call, name: str, default: int) -> int:
    text = call.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise replies.Refused(replies.invalid_form_body(name, "NUMBER_TYPE_COERCE", f'Value "{text[:40]}" is not int.'))
    return int(text)


def _flag(call: calls.Call, name: str) -> bool:
    # Booleans in query strings: developers/reference.mdx (read 2026-08-06).
    text = call.query.get(name, "false")
    if text not in _TRUE | _FALSE:
        raise replies.Refused(replies.invalid_form_body(name, "BOOLEAN_TYPE_CONVERT", "Must be either true or false."))
    return text in _TRUE
