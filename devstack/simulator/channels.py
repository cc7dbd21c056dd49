"""The channels of one guild: all types, categories, private channels, unusual names, recent and old activity."""

import dataclasses
import random

from devstack.simulator import guilds, names, permissions, snowflakes

TEXT, VOICE, CATEGORY, ANNOUNCEMENT, STAGE, FORUM, MEDIA = 0, 2, 4, 5, 13, 15, 16
"""Channel types in a guild's channel list (developers/resources/channel.mdx, read 2026-08-06)."""

FUTURE = 21
"""A type that does not exist yet; clients must tolerate it."""

MOST_CHILDREN = 50
"""Largest number of channels in a category (developers/resources/channel.mdx, read 2026-08-06)."""

_DAY_MS = 86_400_000
_KINDS = (TEXT, VOICE, ANNOUNCEMENT, STAGE, FORUM, MEDIA, FUTURE)
_WEIGHTS = (66, 17, 5, 2, 6, 3, 1)
_SPEAKING = frozenset({TEXT, VOICE, ANNOUNCEMENT, STAGE, FORUM, MEDIA})
_FIRST_CHANNEL_IS_GUILD_UNTIL_MS = 1_483_228_800_000


@dataclasses.dataclass(slots=True)
class Channel:
    """One channel, independent of a viewer; `hidden` hides it from the bot."""

    id: int
    type: int
    name: str
    position: int
    parent_id: int | None = None
    overwrites: list[permissions.Overwrite] = dataclasses.field(default_factory=list)
    last_message_id: int | None = None
    topic: str | None = None
    nsfw: bool = False
    hidden: bool = False


def build(guild: guilds.Guild, seed: int, now_ms: int) -> list[Channel]:
    """Return the channels of *guild* in no particular order; messages are at least a minute older than *now_ms*."""
    rng = random.Random(f"{seed}/channels/{guild.id}")
    count = guild.channel_count
    categories = [_category(rng, guild, number) for number in range(max(1, count // 8))]
    plain = [_plain(rng, guild, number, now_ms) for number in range(count - len(categories))]
    if snowflakes.created_ms(guild.id) < _FIRST_CHANNEL_IS_GUILD_UNTIL_MS:
        plain[0].id = guild.id
    children = dict.fromkeys((category.id for category in categories), 0)
    for channel in plain:
        _place(rng, guild, channel, rng.choice(categories) if rng.random() < 0.9 else None)
        if channel.parent_id is not None:
            children[channel.parent_id] += 1
            if children[channel.parent_id] > MOST_CHILDREN:
                channel.parent_id = None
    made = categories + plain
    rng.shuffle(made)
    return made


def _category(rng: random.Random, guild: guilds.Guild, number: int) -> Channel:
    channel = Channel(_new_id(rng, guild), CATEGORY, names.category_name(rng), number)
    channel.overwrites = _privacy(rng, guild)
    return channel


def _plain(rng: random.Random, guild: guilds.Guild, number: int, now_ms: int) -> Channel:
    kind = rng.choices(_KINDS, _WEIGHTS)[0]
    channel = Channel(_new_id(rng, guild), kind, names.channel_name(rng, number), number // 2)
    if kind in _SPEAKING and rng.random() < 0.85:
        channel.last_message_id = _last_message(rng, channel.id, now_ms)
    if rng.random() < 0.3:
        channel.topic = f"About {names.channel_name(rng, 0)}"
    channel.nsfw = rng.random() < 0.03
    return channel


def _place(rng: random.Random, guild: guilds.Guild, channel: Channel, parent: Channel | None) -> None:
    if parent is not None:
        channel.parent_id = parent.id
        if rng.random() < 0.7:
            channel.overwrites = list(parent.overwrites)
            return
    channel.overwrites = _privacy(rng, guild)


def _new_id(rng: random.Random, guild: guilds.Guild) -> int:
    born = rng.randrange(snowflakes.created_ms(guild.id) + 1, snowflakes.NEWEST_MS + 1)
    return snowflakes.from_ms(born, rng.getrandbits(snowflakes.LOW_BITS))


def _last_message(rng: random.Random, channel_id: int, now_ms: int) -> int:
    # From a minute to some years ago, uniform on a logarithmic scale; never before the channel's creation.
    age_ms = int(60_000 * (2_000 * _DAY_MS / 60_000) ** rng.random())
    return snowflakes.from_ms(
        max(now_ms - age_ms, snowflakes.created_ms(channel_id)), rng.getrandbits(snowflakes.LOW_BITS)
    )


def _privacy(rng: random.Random, guild: guilds.Guild) -> list[permissions.Overwrite]:
    dice = rng.random()
    if dice < 0.55:
        return []
    if dice < 0.70:
        return [_role(guild.id, deny=permissions.SEND_MESSAGES)]
    if dice < 0.92:
        return _private(rng, guild)
    barred = rng.choice(guild.roles[2:])
    return [_role(barred.id, deny=permissions.VIEW_CHANNEL), *_stray(rng)]


def _private(rng: random.Random, guild: guilds.Guild) -> list[permissions.Overwrite]:
    view, staff = permissions.VIEW_CHANNEL, guild.roles[3]
    made = [_role(guild.id, deny=view), _role(staff.id, allow=view | permissions.SEND_MESSAGES)]
    made += [_role(role.id, allow=view) for role in rng.sample(guild.roles[4:], min(2, len(guild.roles) - 4))]
    if rng.random() < 0.2:
        made.append(_role(rng.choice(guild.roles[5:]).id, deny=view))
    if rng.random() < 0.7:
        made.append(_role(guild.roles[1].id, allow=view))
    if guild.simulated_members and rng.random() < 0.4:
        allowed = rng.random() < 0.6
        bits = (view, 0) if allowed else (0, view)
        made.append(permissions.Overwrite(rng.choice(guild.simulated_members), permissions.MEMBER, *bits))
    unique = {(overwrite.kind, overwrite.id): overwrite for overwrite in made + _stray(rng)}
    return list(unique.values())


def _stray(rng: random.Random) -> list[permissions.Overwrite]:
    # Overwrites may name deleted roles and former members (developers/resources/channel.mdx, read 2026-08-06).
    if rng.random() < 0.9:
        return []
    gone = snowflakes.from_ms(snowflakes.OLDEST_MS + rng.getrandbits(38), rng.getrandbits(22))
    return [permissions.Overwrite(gone, rng.randrange(2), permissions.VIEW_CHANNEL, 0)]


def _role(role_id: int, *, allow: int = 0, deny: int = 0) -> permissions.Overwrite:
    return permissions.Overwrite(role_id, permissions.ROLE, allow, deny)
