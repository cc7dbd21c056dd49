"""The request pipeline: authentication, charges and responses."""

import pytest

from tests.unit.devstack.simulator import bench


def code(reply_body: dict[str, object]) -> object:
    """Return Discord's error code."""
    return reply_body["code"]


@pytest.mark.parametrize("agent", ["", "python-requests/2.0", "DiscordBot", "DiscordBot (https://example.org)"])
def test_the_edge_rejects_an_invalid_user_agent(sim: bench.Bench, agent: str) -> None:
    """The reply is the edge's code 40333, without Via."""
    reply = sim.call("/users/@me", User_Agent=agent)

    assert (reply.status, code(bench.document(reply))) == (403, 40333)
    assert "Via" not in reply.headers


@pytest.mark.parametrize("token", ["", "Bot wrong", "Bearer sim-user-1", "Bearer ", "Basic !", "sim-bot-token"])
def test_a_call_is_unauthorized_when_the_token_is_invalid(sim: bench.Bench, token: str) -> None:
    """Missing, unknown and malformed tokens are answered 401 with code 0."""
    reply = sim.call("/users/@me", token)

    assert (reply.status, code(bench.document(reply))) == (401, 0)


@pytest.mark.parametrize("path", ["/nothing", "/guilds/1/channels/2", "/../v9/users/@me"])
def test_an_unknown_route_is_not_found(sim: bench.Bench, path: str) -> None:
    """Unknown routes are answered 404 with code 0."""
    reply = sim.call(path)

    assert (reply.status, code(bench.document(reply))) == (404, 0)


def test_a_call_is_rejected_when_an_id_is_no_snowflake(sim: bench.Bench) -> None:
    """An id that is no number is answered 400 with code 50035 and details."""
    reply = sim.call("/guilds/abc/channels")

    assert (reply.status, code(bench.document(reply))) == (400, 50035)
    assert "guild_id" in bench.document(reply)["errors"]


def test_a_token_is_rejected_on_routes_of_other_token_kinds(sim: bench.Bench) -> None:
    """Users cannot list channels, bots have no own membership, and scopes are required."""
    sim.state.tokens.consent(sim.user, frozenset({"identify"}))

    channels = sim.as_user(f"/guilds/{sim.guild(bot=True)}/channels")
    member = sim.call(f"/users/@me/guilds/{sim.guild(bot=True)}/member")
    guilds = sim.as_user("/users/@me/guilds")

    assert channels.status == 401
    assert (member.status, code(bench.document(member))) == (403, 20001)
    assert (guilds.status, code(bench.document(guilds))) == (403, 50026)


def test_responses_of_discord_have_bucket_headers(sim: bench.Bench) -> None:
    """Limit, remaining, reset and bucket are present; reset minus reset-after is the server's clock."""
    reply = sim.call(f"/guilds/{sim.guild(bot=True)}/channels")

    assert reply.headers["X-RateLimit-Limit"] == "10"
    assert reply.headers["X-RateLimit-Remaining"] == "9"
    assert reply.headers["X-RateLimit-Reset-After"] == "10.000"
    clock = float(reply.headers["X-RateLimit-Reset"]) - float(reply.headers["X-RateLimit-Reset-After"])
    assert clock == pytest.approx(sim.clock.wall(), abs=0.002)
    assert reply.headers["Via"] == "1.1 google"


def test_the_bot_is_limited_globally_when_it_calls_too_often() -> None:
    """The 51st call within a second is answered 429 with scope global and without bucket headers."""
    sim = bench.Bench("--route-limit", "GET /users/@me=1000/1")

    statuses = [sim.call("/users/@me").status for _ in range(50)]
    reply = sim.call("/users/@me")

    assert statuses == [200] * 50
    assert bench.document(reply)["global"] is True
    assert reply.headers["X-RateLimit-Scope"] == "global"
    assert reply.headers["X-RateLimit-Global"] == "true"
    assert reply.headers["Retry-After"] == "1"
    assert "X-RateLimit-Limit" not in reply.headers


def test_only_the_user_who_calls_too_often_is_limited() -> None:
    """The sixth call of a user within five seconds is answered 429 with scope user; other users are not affected."""
    sim = bench.Bench("--users", "2", "--guilds-per-user", "2")
    other = sim.state.tokens.newest_pair(sim.state.world.user_ids[1]).access

    statuses = [sim.as_user("/users/@me").status for _ in range(6)]

    assert statuses == [200] * 5 + [429]
    assert sim.as_user("/users/@me", other).status == 200
    sim.clock.now += 5.001
    assert sim.as_user("/users/@me").status == 200


def test_a_call_is_admitted_after_retry_after(sim: bench.Bench) -> None:
    """After retry_after seconds the call is admitted."""
    for _ in range(5):
        sim.as_user("/users/@me")
        sim.clock.now += 0.1

    refused = sim.as_user("/users/@me")
    sim.clock.now += bench.document(refused)["retry_after"]

    assert refused.status == 429
    assert sim.as_user("/users/@me").status == 200


def test_each_guild_in_the_path_has_its_own_bucket(sim: bench.Bench) -> None:
    """Guilds have separate buckets with the same bucket id."""
    one, other = sim.state.world.bot_guilds()[:2]

    last = [sim.call(f"/guilds/{one}/channels") for _ in range(11)][-1]
    reply = sim.call(f"/guilds/{other}/channels")

    assert (last.status, last.headers["X-RateLimit-Scope"], reply.status) == (429, "user", 200)
    assert last.headers["X-RateLimit-Remaining"] == "0"
    assert last.headers["X-RateLimit-Bucket"] == reply.headers["X-RateLimit-Bucket"]


def test_all_calls_are_admitted_when_no_model_is_enforced() -> None:
    """With `--enforce none` the models only count."""
    sim = bench.Bench("--enforce", "none")

    statuses = {sim.as_user("/users/@me").status for _ in range(40)}

    assert statuses == {200}
    assert sim.state.limiter.document()["user"]["sliding"] == 35


def test_the_address_is_banned_when_it_makes_too_many_invalid_requests() -> None:
    """401, 403 and 429 count; above the limit every call gets the edge's HTML 429 until the window ends."""
    sim = bench.Bench("--invalid-limit", "3/600", "--guilds-per-user", "6")
    for _ in range(3):
        sim.call("/users/@me", "Bot wrong")

    banned = sim.call("/users/@me")
    sim.clock.now += 600

    assert (banned.status, banned.content_type[:9]) == (429, "text/html")
    assert "Via" not in banned.headers
    assert sim.call("/users/@me").status == 200


def test_calls_are_counted_when_they_arrive(sim: bench.Bench) -> None:
    """The statistics have calls by route, token and status, duplicate fetches, and the densest windows."""
    guild = sim.guild(bot=True)
    for path in (f"/guilds/{guild}/channels", f"/guilds/{guild}/channels", f"/guilds/{sim.guild(bot=False)}/channels"):
        sim.call(path)
    for _ in range(6):
        sim.as_user("/users/@me")
        sim.clock.now += 0.9

    seen = sim.state.stats.document()

    assert seen["calls"] == 9
    assert seen["by_route_status"]["GET /guilds/{guild.id}/channels 403"] == 1
    assert (seen["channel_fetches"], seen["duplicate_guild_fetches"]) == (2, 1)
    assert (seen["bot_peak_1s"], seen["user_peak_5s"]) == (3, 6)
    assert seen["http_429_by_class"] == {"user": 1}
    assert len(sim.state.stats.log) == 9


def test_counters_are_zero_when_they_were_reset(sim: bench.Bench) -> None:
    """A reset clears all counters except the calls in flight."""
    sim.state.stats.request_started()
    sim.call("/users/@me")

    sim.state.stats.reset()
    seen = sim.state.stats.document()

    assert seen["calls"] == 0
    assert seen["by_route"] == {}
    assert (seen["in_flight"], seen["peak_concurrency"]) == (1, 1)
