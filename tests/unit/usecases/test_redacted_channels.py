"""Channels that Discord lists without their content (flag 1 << 17): what was known of them stays as it was."""

import pytest

from indexing.domain import model, ports
from indexing.usecases import read_channels
from tests import fake_backend, stored, values

pytestmark = pytest.mark.clockwork
GUILD = values.GUILD
PURPOSE = ports.Purpose(model.Lane.REFRESH, None, "test", 1.0)
GOOD = [
    values.channel(1, name="open"),
    values.channel(2, name="staff", overwrites=(values.denied(GUILD),), position=1),
    values.channel(3, name="also open", position=2),
]


def redacted(channel_id: int) -> model.Channel:
    """Return a channel as it comes when its content is withheld: open to everybody, under another name."""
    return values.channel(channel_id, name="___hidden___", flags=model.OBFUSCATED | 16)


async def read(backend: fake_backend.FakeBackend, *rows: model.Channel) -> read_channels.FetchResult | None:
    """Let the guild be read, when Discord lists these channels."""

    async def began() -> None:
        """Do nothing."""

    backend.discord.channels[GUILD] = list(rows)
    backend.clock.advance(1.0)
    guild = (await backend.guilds.get([GUILD]))[GUILD]
    return await backend.channel_fetcher.fetch(read_channels.FetchRequest(guild, backend.clock(), began), PURPOSE)


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """A guild that was read once, in the open."""
    made = fake_backend.make()
    await made.guilds.upsert_guilds([values.user_guild()], {GUILD})
    await read(made, *GOOD)
    return made


async def test_a_good_row_stays_as_it_was_when_its_channel_is_redacted(backend: fake_backend.FakeBackend) -> None:
    """Neither overwritten, nor taken for deleted; the structure of the guild has not changed."""
    before, backend.guilds.written[:] = (await backend.guilds.get([GUILD]))[GUILD], []

    result = await read(backend, GOOD[0], redacted(2), GOOD[2])

    assert result == read_channels.FetchResult(GOOD, changed=False)
    assert await stored.list_channels(backend.guilds, [GUILD]) == GOOD
    assert (backend.guilds.gone, backend.guilds.written) == ({}, [])
    after = (await backend.guilds.get([GUILD]))[GUILD]
    assert (after.channel_count, after.schedule.fingerprint) == (3, before.schedule.fingerprint)


async def test_a_guild_loses_nothing_when_all_its_channels_are_redacted(backend: fake_backend.FakeBackend) -> None:
    """A listing of nothing but redacted channels lacks none, so that it is not even asked for twice."""
    await read(backend, *(redacted(row.channel_id) for row in GOOD))

    assert await stored.list_channels(backend.guilds, [GUILD]) == GOOD
    assert backend.discord.asked(GUILD) == 2


async def test_a_redacted_channel_is_not_stored_when_nothing_was_known_of_it(backend: fake_backend.FakeBackend) -> None:
    """Its name and overwrites are not real: it would be shown to everybody."""
    result = await read(backend, *GOOD, redacted(4))

    assert result == read_channels.FetchResult(GOOD, changed=False)
    assert await stored.list_channels(backend.guilds, [GUILD]) == GOOD


async def test_a_gone_channel_stays_gone_when_a_listing_has_it_redacted(
    backend: fake_backend.FakeBackend,
) -> None:
    """A redacted row does not restore a hidden channel."""
    await read(backend, *GOOD[:2])

    await read(backend, *GOOD[:2], redacted(3))

    assert await stored.list_channels(backend.guilds, [GUILD]) == GOOD[:2]
    assert set(backend.guilds.gone) == {3}


async def test_a_new_guild_has_no_channels_when_all_are_redacted() -> None:
    """And it counts as read."""
    backend = fake_backend.make()
    await backend.guilds.upsert_guilds([values.user_guild()], {GUILD})

    result = await read(backend, redacted(1))

    assert result is not None
    assert result.channels == []
    assert await stored.list_channels(backend.guilds, [GUILD]) == []


async def test_a_channel_counts_again_when_it_is_not_redacted_any_more(backend: fake_backend.FakeBackend) -> None:
    """The next good row takes the place of the old one."""
    await read(backend, redacted(1), *GOOD[1:])
    renamed = values.channel(1, name="renamed")

    await read(backend, renamed, *GOOD[1:])

    assert await stored.list_channels(backend.guilds, [GUILD]) == [renamed, *GOOD[1:]]
