"""What a user is shown of each of their guilds, as far as their guild list allows."""

import dataclasses

from indexing import settings
from indexing.domain import channel_views, freshness, model, ranking, reasons, trust


@dataclasses.dataclass(frozen=True, slots=True)
class GuildView:
    """
    One of a user's guilds.

    Attributes:
        position: 0 is the most important one.
        channel_count: Channels that the user may see, None when the guild was never indexed.
        reason: Why channels are missing or stale; empty when the guild is complete.
        rank: The inputs and score of the position; None where no position is shown.
        install_url: Where our bot can be installed; empty when it is installed.
    """

    guild: model.Guild
    owner: bool
    position: int
    channel_count: int | None
    stale: bool
    reason: str
    rank: ranking.RankedGuild | None
    install_url: str = ""


def without_news(guild_id: int) -> model.Guild:
    """
    Return a guild without anything that other users' jobs may have found out since a user's guild list became too old.

    Its name is left out as well, because the stored name may be a new one.
    """
    return model.Guild(
        guild_id=guild_id,
        name="",
        icon=None,
        member_count=None,
        access=model.Access.UNKNOWN,
        fetched_at=None,
        newest_message_id=None,
        channel_count=0,
        reason="",
        retry_at=0.0,
        lease_until=0.0,
    )


class GuildViewer:
    """Makes the views of a user's guilds."""

    def __init__(self, config: settings.IndexingSettings, trusted: trust.Trust) -> None:
        self._config = config
        self._trust = trusted

    def view(
        self,
        membership: model.Membership,
        views: channel_views.ChannelViews,
        rank: ranking.RankedGuild | None,
        position: int,
        now: float,
    ) -> GuildView:
        """Return the view of a guild to a member whose guild list is recent enough."""
        guild, roles = views.guild, self._trust.trusted_roles(membership, now)
        indexed = guild.fetched_at is not None and guild.access is not model.Access.NOT_INSTALLED
        too_old = not self._trust.trusts_channels(guild, now)
        count = None
        if indexed:
            count = 0 if self._trust.hides_channels(guild, membership, now) else len(views.view(membership, roles))
        stale = not freshness.is_fresh(guild, now=now, max_age=self._config.max_age)
        hidden = roles is None and views.needs_roles(membership)
        return GuildView(
            guild=guild,
            owner=membership.owner,
            position=position,
            channel_count=count,
            stale=stale,
            reason=_reason(guild, indexed=indexed, too_old=too_old, hidden=hidden, stale=stale),
            rank=rank,
            install_url=_install_url(self._config.install_url, guild),
        )

    def view_without_news(
        self, membership: model.Membership, rank: ranking.RankedGuild | None, position: int
    ) -> GuildView:
        """Return the view of a guild to a member whose guild list is too old: what the list itself said."""
        return GuildView(
            guild=without_news(membership.guild_id),
            owner=membership.owner,
            position=position,
            channel_count=0,
            stale=True,
            reason=reasons.LIST_TOO_OLD,
            rank=rank,
        )


def _reason(guild: model.Guild, *, indexed: bool, too_old: bool, hidden: bool, stale: bool) -> str:
    """Return the first reason that applies: a refusal that hides channels explains more than their age."""
    if guild.access is model.Access.NOT_INSTALLED:
        return reasons.BOT_REMOVED if guild.reason == reasons.BOT_REMOVED else reasons.BOT_NOT_INSTALLED
    refusal = (guild.reason or reasons.NO_ACCESS) if guild.access is model.Access.DENIED else ""
    found = [
        refusal if not indexed or refusal == reasons.NO_ACCESS else "",
        reasons.NOT_INDEXED_YET if not indexed else "",
        reasons.CHANNELS_TOO_OLD if too_old else "",
        refusal,
        reasons.GUILD_UNAVAILABLE if stale and guild.schedule.failures else "",
        reasons.ROLES_UNKNOWN if hidden else "",
    ]
    return next(filter(None, found), "")


def _install_url(template: str, guild: model.Guild) -> str:
    """Return the link for one guild (developers/topics/oauth2.mdx, Bot Authorization Flow, read 2026-08-06)."""
    if not template or guild.access is not model.Access.NOT_INSTALLED:
        return ""
    return f"{template}&guild_id={guild.guild_id}&disable_guild_select=true"
