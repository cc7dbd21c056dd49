"""Reasons why a guild or channel is not up to date, how long refusals are cached, and advice for each reason."""

from indexing.domain import model

BOT_NOT_INSTALLED = "BOT_NOT_INSTALLED"
BOT_REMOVED = "BOT_REMOVED"
"""Our bot was removed from the guild. What was fetched is hidden at once and erased later."""
GUILD_UNAVAILABLE = "GUILD_UNAVAILABLE"
"""An outage: Discord does not answer for the guild although our bot is a member. What was fetched stays."""
HIDDEN_OR_DELETED = "HIDDEN_OR_DELETED"
"""
A channel missing from a complete listing. Discord leaves out what our bot may not view
(change log of 2026-08-12, in force since 2026-11-16), so the two cannot be told apart.
"""
CHANNEL_DELETED = "CHANNEL_DELETED"
"""Discord's Gateway said that the channel is deleted."""
USER_LEFT = "USER_LEFT"
MUTED = "MUTED"
NO_ACCESS = "NO_ACCESS"
GUILD_TOO_LARGE = "GUILD_TOO_LARGE"
"""The guild's listing of channels is larger than DISCORD_MAX_BODY_BYTES."""
ANSWER_UNREADABLE = "ANSWER_UNREADABLE"
"""Discord's answer is not the expected JSON, or a list of guilds is too large, each time that it is fetched."""
NOT_INDEXED_YET = "NOT_INDEXED_YET"
ROLES_UNKNOWN = "ROLES_UNKNOWN"
LIST_TOO_OLD = "LIST_TOO_OLD"
"""The user's guild list is too old to say whether they are still a member."""
CHANNELS_TOO_OLD = "CHANNELS_TOO_OLD"
"""The guild's channels were not fetched for so long that only owners and administrators see them."""

HOUR = 3_600.0
NEGATIVE_CACHE_TTLS = (HOUR, 6 * HOUR, 24 * HOUR, 7 * 24 * HOUR)
"""Seconds for which the first, second … refusal in a row is cached: each 403 counts towards the invalid-request limit
of the whole fleet (developers/topics/rate-limits.mdx, Invalid Request Limit, read 2026-08-06)."""
UNREADABLE_ATTEMPTS = 3
"""Attempts to read an answer that is unreadable each time. One such answer may pass; three in 15 s are how it is."""
FORCED_RETRY_INTERVAL = 60.0
"""Least seconds between two requests for a refused guild, forced ones included."""

ADVICE = {
    BOT_NOT_INSTALLED: "Install the bot in this server.",
    BOT_REMOVED: "The bot was removed from this server; install it again.",
    GUILD_UNAVAILABLE: "Discord has an outage for this server; stored channels stay visible for some days.",
    USER_LEFT: "The user is not a member any more.",
    MUTED: "The user has muted this server; unmute it to index it.",
    NO_ACCESS: "Give the bot the permission to view channels in this server, then index it with force.",
    GUILD_TOO_LARGE: "This server's list of channels is too large to be read; tell the operators.",
    ROLES_UNKNOWN: "Ask the user to log in again and to grant guilds.members.read.",
    LIST_TOO_OLD: "Index the user again, so that their server list is read.",
    CHANNELS_TOO_OLD: "This server could not be read for too long; unmute it, or index the user again with force.",
    "DISCORD_TRANSIENT": "Discord did not answer correctly; retry the job later.",
    ANSWER_UNREADABLE: "Discord's answer cannot be read; tell the operators if it stays so for an hour.",
    "DISCORD_REFUSED": "Discord refused the request itself; tell the operators.",
    "CLIENT_REFUSED": "Discord refuses the application's id or secret; tell the operators.",
    "BOT_TOKEN_REFUSED": "Discord refuses the bot's token; tell the operators.",
    "INTERNAL": "A bug; tell the operators.",
    "TURNS_LOST": "The job's turns broke off several times; tell the operators, then retry the job.",
    "CREDENTIAL_MISSING": "Store the user's tokens with PutCredential, then retry the job.",
    "REAUTH_REQUIRED": "Ask the user to log in again, store the new tokens, then retry the job.",
    "CREDENTIAL_UNVERIFIABLE": "Discord does not say whose tokens they are; tell the operators.",
    "CREDENTIAL_OF_ANOTHER_USER": "The stored tokens belong to another user; store this user's own tokens.",
    "CREDENTIAL_OF_ANOTHER_APPLICATION": "Ask the user to log in with this application, then store the new tokens.",
    "IDENTIFY_SCOPE_MISSING": "Ask the user to log in again and to grant identify, then store the new tokens.",
    "CREDENTIAL_REVOKED": "The user's tokens were revoked; store new ones before the job is retried.",
}
"""What a user or operator can do about each reason, in one line."""


def advice(reason: str) -> str:
    """Return the advice for *reason*; empty when there is none."""
    return ADVICE.get(reason, "")


def most_attempts(reason: str, before: str, most: int) -> int:
    """Return how many attempts are made when one failed for *reason* and the one before it for *before*."""
    return min(most, UNREADABLE_ATTEMPTS) if reason == before == ANSWER_UNREADABLE else most


def negative_cache_expiry(refusals: int, now: float) -> float:
    """Return until when a refusal is cached that follows *refusals* others in a row."""
    return now + NEGATIVE_CACHE_TTLS[min(refusals, len(NEGATIVE_CACHE_TTLS) - 1)]


def is_negatively_cached(guild: model.Guild, *, now: float, force: bool) -> bool:
    """Return whether the guild's last refusal is still cached, so that no call is made."""
    if force:
        return now - guild.refused_at < FORCED_RETRY_INTERVAL
    return guild.retry_at > now
