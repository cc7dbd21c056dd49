"""Calls to Discord: the requests that are sent, and one permit for each attempt."""

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from indexing import errors, settings
from indexing.discord import client
from indexing.domain import model, ports
from tests import servers, values
from tests.unit.discord import conftest, wire

GUILD, USER = values.GUILD, values.USER
CHANNELS = [{"id": "7", "type": 0, "name": "general", "permission_overwrites": []}]


def guild_page(first: int, number: int) -> bytes:
    """Return a response with a page of guilds, whose ids are *first* and those that follow."""
    return wire.reply(200, [{"id": str(guild_id)} for guild_id in range(first, first + number)])


async def test_user_guilds_are_requested_with_the_users_token_when_they_are_listed(bench: conftest.Bench) -> None:
    """One page with member counts; the user's budget is charged, and the route's budget is the user's own."""
    bench.server.answer(wire.reply(200, [{"id": "5", "permissions": "8", "approximate_member_count": 3}]))

    found = await bench.discord.user_guilds(values.credential(access_token="user-token"), conftest.PURPOSE)

    assert found == [values.user_guild(5, name="", permissions=8, member_count=3)]
    (request,) = bench.server.requests
    assert request.path == "/api/v10/users/@me/guilds?with_counts=true&limit=200"
    assert request.headers["authorization"] == "Bearer user-token"
    (charge,) = bench.permits.charges
    assert (charge.route, charge.identity, charge.user_id, charge.major) == (
        "GET /users/@me/guilds",
        f"user:{USER}",
        USER,
        None,
    )
    assert (charge.lane, charge.waiter, bench.permits.max_waits) == (model.Lane.INTERACTIVE, "job:guild", [0.75])


async def test_a_call_takes_its_callers_turn_when_its_purpose_names_some(bench: conftest.Bench) -> None:
    """Whatever token it carries."""
    bench.server.answer(wire.reply(200, [{"id": "5", "permissions": "8"}]), guild_page(1, 1))
    purpose = dataclasses.replace(conftest.PURPOSE, callers=("a", "b"))

    await bench.discord.user_guilds(values.credential(), purpose)
    await bench.discord.bot_is_in(1, purpose)

    assert [charge.callers for charge in bench.permits.charges] == [("a", "b")] * 2


async def test_guild_channels_are_requested_with_the_bots_token_when_they_are_fetched(bench: conftest.Bench) -> None:
    """The user's budget is charged although the token is the bot's."""
    bench.server.answer(wire.reply(200, CHANNELS))

    found = await bench.channels()

    assert found == [values.channel(7, name="general")]
    (request,) = bench.server.requests
    assert request.path == f"/api/v10/guilds/{GUILD}/channels"
    assert request.headers["authorization"] == f"Bot {conftest.BOT_TOKEN}"
    (charge,) = bench.permits.charges
    assert (charge.route, charge.identity, charge.user_id, charge.major) == (
        "GET /guilds/{guild.id}/channels",
        "bot",
        USER,
        GUILD,
    )


@pytest.mark.parametrize("charge_bot_reads", [True, False])
async def test_channel_reads_charge_the_user_as_the_setting_says(*, charge_bot_reads: bool) -> None:
    """The charge names the user either way, because users take turns by it."""
    async with conftest.open_bench(charge_bot_reads=charge_bot_reads) as bench:
        bench.server.answer(wire.reply(200, CHANNELS))

        await bench.channels()

        (charge,) = bench.permits.charges
        assert (charge.user_id, charge.charges_user) == (USER, charge_bot_reads)


@pytest.mark.parametrize(
    ("scopes", "problem"),
    [
        pytest.param(("guilds", ports.MEMBER_SCOPE), errors.CredentialOfAnotherUser, id="own token"),
        pytest.param(("guilds",), errors.DiscordTransient, id="the bot's token"),
    ],
)
async def test_no_roles_are_returned_when_the_answer_is_about_another_member(
    bench: conftest.Bench, scopes: tuple[str, ...], problem: type[Exception]
) -> None:
    """The user's own token is then another user's; the bot's answer is only odd."""
    bench.server.answer(wire.reply(200, {"roles": ["5"], "user": {"id": str(USER + 1)}}))

    with pytest.raises(problem) as raised:
        await bench.discord.member_roles(USER, GUILD, values.credential(scopes=scopes), conftest.PURPOSE)

    assert type(raised.value) is problem


async def test_other_calls_charge_the_user_when_channel_reads_do_not() -> None:
    """A user's list and roles, with either token."""
    async with conftest.open_bench(charge_bot_reads=False) as bench:
        bench.server.answer(wire.reply(200, []), wire.reply(200, {"roles": []}), wire.reply(200, {"roles": []}))

        await bench.discord.user_guilds(values.credential(), conftest.PURPOSE)
        for scopes in (("guilds",), ("guilds", ports.MEMBER_SCOPE)):
            await bench.discord.member_roles(USER, GUILD, values.credential(scopes=scopes), conftest.PURPOSE)

        assert [charge.charged_user for charge in bench.permits.charges] == [USER, USER, USER]


@pytest.mark.parametrize(
    ("scopes", "path", "authorization", "identity"),
    [
        pytest.param(
            ("guilds", "guilds.members.read"),
            f"/api/v10/users/@me/guilds/{GUILD}/member",
            "Bearer user-token",
            f"user:{USER}",
            id="with-scope",
        ),
        pytest.param(
            ("guilds",),
            f"/api/v10/guilds/{GUILD}/members/{USER}",
            f"Bot {conftest.BOT_TOKEN}",
            "bot",
            id="without-scope",
        ),
    ],
)
async def test_roles_are_requested_with_the_bots_token_when_the_users_scope_is_missing(
    bench: conftest.Bench, scopes: tuple[str, ...], path: str, authorization: str, identity: str
) -> None:
    """With the scope, the user's own token is used."""
    bench.server.answer(wire.reply(200, {"roles": ["5", "6"]}))
    credential = values.credential(access_token="user-token", scopes=scopes)

    found = await bench.discord.member_roles(USER, GUILD, credential, conftest.PURPOSE)

    assert found == (5, 6)
    (request,) = bench.server.requests
    assert (request.path, request.headers["authorization"]) == (path, authorization)
    assert bench.permits.charges[0].identity == identity


def user_page(first: int, number: int) -> bytes:
    """Return a response with a page of a user's guilds."""
    return wire.reply(200, [{"id": str(key), "permissions": "0"} for key in range(first, first + number)])


@pytest.mark.parametrize(
    ("pages", "wanted", "asked"),
    [
        pytest.param([user_page(1, 189)], 189, [""], id="one page"),
        pytest.param([user_page(1, 199), user_page(201, 3)], 202, ["", "199"], id="a page that lacks a row"),
        pytest.param([user_page(1, 200), wire.reply(200, [])], 200, ["", "200"], id="one full page"),
        pytest.param([user_page(1, 200)] * 3, 200, ["", "200"], id="pages that repeat"),
        pytest.param(
            [user_page(first, 200) for first in range(1, 2_000, 200)], 1_000, ["", "200", "400", "600", "800"], id="cut"
        ),
    ],
)
async def test_user_guilds_reads_more_pages_when_the_first_may_be_full(
    bench: conftest.Bench, pages: list[bytes], wanted: int, asked: list[str]
) -> None:
    """The documented maximum of 200 guilds is not assumed; almost all users cost one call."""
    bench.server.answer(*pages)

    found = await bench.discord.user_guilds(values.credential(), conftest.PURPOSE)

    assert len({guild.guild_id for guild in found}) == len(found) == wanted
    assert [request.path.partition("&after=")[2] for request in bench.server.requests] == asked
    assert bench.permits.balanced


@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        (401, 0, errors.TokenRefused),
        (403, 50025, errors.TokenRefused),
        (403, 50026, errors.TokenRefused),
        (403, 40002, errors.DiscordRefused),
        (404, 0, errors.DiscordRefused),
        (404, 10004, errors.DiscordRefused),
    ],
)
async def test_a_list_is_refused_for_a_reason_of_its_own_when_discord_refuses_it(
    bench: conftest.Bench, status: int, code: int, problem: type[Exception]
) -> None:
    """No access to a guild, or an unknown guild, cannot be the reason. The bot's list says nothing about a user."""
    refusal = wire.reply(status, {"message": "no", "code": code})
    bench.server.answer(refusal, refusal, refusal)
    raised = []

    for call in (
        bench.discord.user_guilds(values.credential(), conftest.PURPOSE),
        bench.discord.bot_guilds(conftest.PURPOSE),
        bench.discord.bot_is_in(7, conftest.PURPOSE),
    ):
        with pytest.raises(errors.DiscordRefused) as failed:
            await call
        raised.append(type(failed.value))

    bots = errors.BotTokenRefused if problem is errors.TokenRefused else problem
    assert raised == [problem, bots, bots]


async def test_bot_guilds_reads_every_page_when_there_are_many_guilds(bench: conftest.Bench) -> None:
    """Each page begins after the previous one's greatest id, in whatever order, and has its own permit."""
    mixed = json.loads(guild_page(1, 200).partition(b"\r\n\r\n")[2])
    bench.server.answer(wire.reply(200, mixed[::-1]), guild_page(201, 200), guild_page(401, 3))

    found = await bench.discord.bot_guilds(conftest.PURPOSE)

    assert found == frozenset(range(1, 404))
    assert [request.path.partition("?")[2] for request in bench.server.requests] == [
        "after=0&limit=200",
        "after=200&limit=200",
        "after=400&limit=200",
        "after=403&limit=200",
    ]
    assert len(bench.permits.charges) == 4


@pytest.mark.parametrize(
    ("pages", "wanted", "asked"),
    [
        pytest.param([guild_page(1, 200)], 200, 2, id="full-last-page"),
        pytest.param([guild_page(1, 200)] * 9, 200, 2, id="pages-that-repeat"),
        pytest.param([], 0, 1, id="no-guild"),
    ],
)
async def test_bot_guilds_stops_paging_when_a_page_has_no_new_guild(
    bench: conftest.Bench, pages: list[bytes], wanted: int, asked: int
) -> None:
    """A server that repeats its pages causes no endless loop."""
    bench.server.answer(*pages)

    found = await bench.discord.bot_guilds(conftest.PURPOSE)

    assert (len(found), len(bench.server.requests)) == (wanted, asked)


@pytest.mark.parametrize(("first", "there"), [(300, True), (301, False)], ids=["has-it", "begins-after-it"])
async def test_bot_is_in_reads_one_page_when_it_is_called(
    bench: conftest.Bench,
    first: int,
    there: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The page that begins with the guild's id."""
    bench.server.answer(guild_page(first, 200))

    assert await bench.discord.bot_is_in(300, conftest.PURPOSE) is there
    assert [request.path.partition("?")[2] for request in bench.server.requests] == ["after=299&limit=200"]


async def test_requests_name_the_user_agent_and_keep_no_cookies_when_they_are_sent(bench: conftest.Bench) -> None:
    """The user agent has Discord's form; the connection is kept."""
    bench.server.answer(wire.reply(200, [], Set_Cookie="__cfruid=tracking; path=/"))

    await bench.channels()
    await bench.channels()

    assert {request.headers["user-agent"] for request in bench.server.requests} == {client.USER_AGENT}
    assert client.USER_AGENT.startswith("DiscordBot (https://")
    assert not any("cookie" in request.headers for request in bench.server.requests)
    assert bench.server.connections == 1


async def test_retry_takes_a_permit_when_a_kept_connection_is_dropped(bench: conftest.Bench) -> None:
    """The HTTP library would retry by itself, without a permit."""
    await bench.channels()
    bench.server.answer(wire.DROP, wire.reply(200, CHANNELS))

    found = await bench.channels()

    assert found is not None
    assert len(bench.server.requests) == len(bench.permits.charges) == 3
    assert [answer.status for answer in bench.permits.settled] == [200, None, 200]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed_when_it_arrives(bench: conftest.Bench, status: int) -> None:
    """Following it would send a request without a permit, and could send the token to another server. It may pass."""
    bench.server.answer(*[wire.reply(status, b"", Location=f"{bench.server.base}/elsewhere")] * 2)

    with pytest.raises(errors.DiscordTransient):
        await bench.channels()

    assert {request.path for request in bench.server.requests} == {f"/api/v10/guilds/{GUILD}/channels"}
    assert len(bench.server.requests) == len(bench.permits.charges) == 2


async def test_nothing_is_sent_when_the_limiter_refuses(bench: conftest.Bench) -> None:
    """The limiter's error reaches the caller unchanged, without a retry."""
    refusals = [errors.RateLimited("user", retry_after=3.0, why="used up"), errors.LimiterUnavailable(1.0)]

    for refusal in refusals:
        bench.permits.refusal = refusal
        with pytest.raises(type(refusal)) as raised:
            await bench.channels()
        assert raised.value is refusal

    assert bench.server.requests == []


async def test_nothing_is_sent_when_the_precondition_fails(bench: conftest.Bench) -> None:
    """It is awaited between the permit and the request; the permit is given back."""
    seen: list[tuple[int, int]] = []

    async def false() -> bool:
        seen.append((len(bench.permits.charges), len(bench.server.requests)))
        return False

    found = await bench.discord.guild_channels(GUILD, conftest.PURPOSE, false)

    assert found is None
    assert seen == [(1, 0)]
    assert (bench.server.requests, bench.permits.returned, bench.permits.settled) == ([], 1, [])


@pytest.mark.parametrize(
    "problem", [errors.StoreUnavailable("away"), asyncio.CancelledError()], ids=["store", "cancel"]
)
async def test_permit_is_given_back_when_the_precondition_raises(bench: conftest.Bench, problem: BaseException) -> None:
    """Nothing was sent."""

    async def failing() -> bool:
        raise problem

    with pytest.raises(type(problem)):
        await bench.discord.guild_channels(GUILD, conftest.PURPOSE, failing)

    assert (bench.server.requests, bench.permits.returned) == ([], 1)


async def test_nothing_is_sent_when_the_permit_is_past_its_send_deadline(bench: conftest.Bench) -> None:
    """A process that was paused gives the permit back: another call may hold it already."""
    bench.permits.age = 60.0

    with pytest.raises(errors.RateLimited) as late:
        await bench.channels()

    assert (late.value.retry_after, late.value.why) == (0.0, errors.PERMIT_EXPIRED)
    assert (bench.server.requests, bench.permits.returned, bench.permits.settled) == ([], client.ATTEMPTS, [])


async def test_call_is_sent_under_another_permit_when_the_first_expires_meanwhile(bench: conftest.Bench) -> None:
    """A precondition that takes longer than a permit lasts, with a slow store, holds when it is checked again."""
    bench.permits.age = 60.0

    async def slow() -> bool:
        bench.permits.age = 0.0
        return True

    found = await bench.discord.guild_channels(GUILD, conftest.PURPOSE, slow)

    assert found == []
    assert (len(bench.server.requests), bench.permits.returned, len(bench.permits.settled)) == (1, 1, 1)


async def test_permit_is_given_back_when_discord_cannot_be_reached(bench: conftest.Bench) -> None:
    """A request that was certainly not sent costs nothing; both attempts have their own permit."""
    bench.discord._config = settings.DiscordSettings(
        api_base=f"http://127.0.0.1:{servers.free_port()}", bot_token=conftest.BOT_TOKEN
    )

    with pytest.raises(errors.DiscordTransient):
        await bench.channels()

    assert (len(bench.permits.charges), bench.permits.returned, bench.permits.settled) == (2, 2, [])


async def test_permit_is_settled_with_the_response_when_it_arrives(bench: conftest.Bench) -> None:
    """With status, headers by their lower-case names, and the round trip."""
    bench.server.answer(wire.reply(200, [], X_RateLimit_Limit="5", X_RateLimit_Bucket="abc"))

    await bench.channels()

    (answer,) = bench.permits.settled
    assert answer.status == 200
    assert answer.headers.items() >= {("x-ratelimit-limit", "5"), ("x-ratelimit-bucket", "abc")}
    assert 0.0 < answer.round_trip < 1.0
    assert answer.is_discord


async def test_permit_stays_held_when_the_call_is_cancelled(bench: conftest.Bench) -> None:
    """Discord may have counted the request: neither settled nor given back, the permit is held for its full time."""
    bench.server.answer(wire.HANG)
    call = asyncio.create_task(bench.channels())
    await bench.server.asked.wait()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert (bench.permits.settled, bench.permits.returned) == ([], 0)


async def test_calls_are_counted_when_they_end(bench: conftest.Bench) -> None:
    """By route, lane and outcome, never by an id."""
    bench.server.answer(wire.reply(500, {}), wire.DROP, wire.reply(404, {"message": "x", "code": 10004}))
    for _ in range(2):
        with pytest.raises(errors.IndexerError):
            await bench.channels()

    def counted(**labels: Any) -> float | None:  # noqa: ANN401 -- a label
        route = "GET /guilds/{guild.id}/channels"
        return bench.registry.get_sample_value(
            "indexer_discord_calls_total", {"route": route, "lane": "interactive", **labels}
        )

    assert [counted(status=status) for status in ("500", "lost", "404")] == [1, 1, 1]


async def test_a_call_names_the_caller_that_brought_its_token_when_it_is_a_users(bench: conftest.Bench) -> None:
    """A call with the bot's token names none, whoever asks for it."""
    described = {"application": {"id": "the-client"}, "scopes": [], "user": {"id": "1"}}
    member = {"user": {"id": str(USER)}, "roles": []}
    bench.server.answer(
        wire.reply(200, []), wire.reply(200, described), wire.reply(200, member), wire.reply(200, CHANNELS)
    )
    pair = values.credential(brought_by="shop")

    await bench.discord.user_guilds(pair, conftest.PURPOSE)
    await bench.oauth.describe(pair, conftest.PURPOSE)
    await bench.discord.member_roles(USER, GUILD, pair, conftest.PURPOSE)
    await bench.channels()

    assert [charge.brought_by for charge in bench.permits.charges] == ["shop", "shop", "shop", ""]
