"""The routes that are called, by Discord's documented templates (developers/resources, read 2026-08-06)."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """
    One route with its ids filled in.

    Attributes:
        template: The route without ids, which names it in budgets and metrics.
        path: Path below the API's base URL.
        guild_id: Top-level guild, which may have its own rate-limit bucket; None if the path begins with no guild.
    """

    template: str
    path: str
    guild_id: int | None = None


def user_guilds() -> Route:
    """Guilds of the token's owner. A user has at most 200, one page (resources/user.mdx:297)."""
    return Route("GET /users/@me/guilds", "/users/@me/guilds")


def guild_channels(guild_id: int) -> Route:
    """All channels except threads, in one response (resources/guild.mdx:886)."""
    return Route("GET /guilds/{guild.id}/channels", f"/guilds/{guild_id}/channels", guild_id)


def own_member(guild_id: int) -> Route:
    """The token's user as a member. The guild is not at the top of the path, so it has no bucket of its own."""
    return Route("GET /users/@me/guilds/{guild.id}/member", f"/users/@me/guilds/{guild_id}/member")


def guild_member(guild_id: int, user_id: int) -> Route:
    """Any member, with the bot's token; needs no privileged intent."""
    return Route("GET /guilds/{guild.id}/members/{user.id}", f"/guilds/{guild_id}/members/{user_id}", guild_id)


def oauth_token() -> Route:
    """Exchanges a refresh token for a new pair (topics/oauth2.mdx, read 2026-08-06)."""
    return Route("POST /oauth2/token", "/oauth2/token")


def oauth_authorization() -> Route:
    """Describes the token it is called with, which may be any user's token (topics/oauth2.mdx)."""
    return Route("GET /oauth2/@me", "/oauth2/@me")


def own_user() -> Route:
    """The token's user (resources/user.mdx, Get Current User)."""
    return Route("GET /users/@me", "/users/@me")


def oauth_revoke() -> Route:
    """Revokes a grant with all of its tokens (topics/oauth2.mdx:194)."""
    return Route("POST /oauth2/token/revoke", "/oauth2/token/revoke")


def gateway_bot() -> Route:
    """Where to connect to the Gateway, and how many sessions may be started (events/gateway.mdx, Get Gateway Bot)."""
    return Route("GET /gateway/bot", "/gateway/bot")
