"""The calls that we make, by Discord's documented route templates (developers/resources, read 2026-08-06)."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """
    One call.

    Attributes:
        template: Bounded name for budgets and metrics; never carries an id.
        path: Path below the API's base.
        guild: Top-level guild that may split the route's rate-limit bucket, None when there is none.
    """

    template: str
    path: str
    guild: int | None = None


def user_guilds() -> Route:
    """Guilds of whoever owns the token. A user has at most 200, one page (resources/user.mdx:297)."""
    return Route("GET /users/@me/guilds", "/users/@me/guilds")


def guild_channels(guild_id: int) -> Route:
    """All channels but threads, in one answer (resources/guild.mdx:886)."""
    return Route("GET /guilds/{guild.id}/channels", f"/guilds/{guild_id}/channels", guild_id)


def own_member(guild_id: int) -> Route:
    """The token's user as a member; the guild id is not at the top of the path, so it splits no bucket."""
    return Route("GET /users/@me/guilds/{guild.id}/member", f"/users/@me/guilds/{guild_id}/member")


def token() -> Route:
    """Trades a refresh token for a new pair (topics/oauth2.mdx, read 2026-08-06)."""
    return Route("POST /oauth2/token", "/oauth2/token")


def revoke() -> Route:
    """Ends a grant: every token of it dies with the one that is named (topics/oauth2.mdx:194)."""
    return Route("POST /oauth2/token/revoke", "/oauth2/token/revoke")


def guild_member(guild_id: int, user_id: int) -> Route:
    """Any member, by the bot; needs no privileged intent."""
    return Route("GET /guilds/{guild.id}/members/{user.id}", f"/guilds/{guild_id}/members/{user_id}", guild_id)
