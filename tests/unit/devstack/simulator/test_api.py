"""Discord's endpoints."""

import pytest

from devstack.simulator import permissions
from tests.unit.devstack.simulator import bench


def test_a_user_lists_exactly_their_guilds(sim: bench.Bench) -> None:
    """The list has every guild of the user, by ascending id, with the documented fields and types."""
    listed = bench.document(sim.as_user("/users/@me/guilds"))

    assert [int(guild["id"]) for guild in listed] == sim.state.world.guilds_of(sim.user)
    for guild in listed:
        assert set(guild) == {"id", "name", "icon", "banner", "owner", "permissions", "features"}
        assert int(guild["permissions"]) & permissions.VIEW_CHANNEL or guild["permissions"].isdecimal()


def test_counts_are_included_when_they_are_requested(sim: bench.Bench) -> None:
    """`with_counts` adds both approximate counts."""
    guild = bench.document(sim.as_user("/users/@me/guilds?with_counts=true"))[0]

    assert guild["approximate_member_count"] >= guild["approximate_presence_count"]


def test_pages_cover_all_guilds_when_the_bot_lists_them() -> None:
    """Following `after` returns each of the bot's guilds once; `before` pages backwards."""
    sim = bench.Bench("--users", "3", "--guilds-per-user", "20")
    found: list[str] = []
    after = "0"
    while page := bench.document(sim.call(f"/users/@me/guilds?limit=7&after={after}")):
        found += [guild["id"] for guild in page]
        after = found[-1]
        sim.clock.now += 1

    earlier = bench.document(sim.call(f"/users/@me/guilds?limit=3&before={found[5]}"))

    assert [int(guild_id) for guild_id in found] == sim.state.world.bot_guilds()
    assert [guild["id"] for guild in earlier] == found[2:5]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "after=-1", "with_counts=perhaps"])
def test_a_request_is_rejected_when_a_parameter_is_invalid(sim: bench.Bench, query: str) -> None:
    """A parameter out of range is answered 400 with code 50035."""
    reply = sim.as_user(f"/users/@me/guilds?{query}")

    assert (reply.status, bench.document(reply)["code"]) == (400, 50035)


def test_the_bot_lists_only_channels_that_it_can_view(sim: bench.Bench) -> None:
    """Private channels are left out, and ids are strings."""
    sim.state.sizes.bot = sim.state.sizes.bot._replace(capacity=1000)
    hidden = 0
    for guild_id in sim.state.world.bot_guilds():
        guild = sim.state.world.guild(guild_id)
        assert guild is not None
        every = {channel.id for channel in sim.state.world.channels_of(guild)}

        shown = {int(channel["id"]) for channel in bench.document(sim.call(f"/guilds/{guild_id}/channels"))}

        assert shown <= every
        hidden += len(every - shown)
    assert hidden > 0


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/guilds/{alien}/channels", 403, 50001),
        ("/guilds/1/channels", 404, 10004),
        ("/guilds/{guild}/members/1", 404, 10013),
        ("/guilds/{alien}/members/{user}", 403, 50001),
    ],
    ids=["bot not installed", "no such guild", "no such user", "member where the bot is not"],
)
def test_the_error_is_discords_when_the_bot_has_no_access(sim: bench.Bench, path: str, status: int, code: int) -> None:
    """Missing access and unknown objects have their own status and code."""
    filled = path.format(alien=sim.guild(bot=False), guild=sim.guild(bot=True), user=sim.user)

    reply = sim.call(filled)

    assert (reply.status, bench.document(reply)["code"]) == (status, code)


def test_both_routes_agree_when_a_member_is_read(sim: bench.Bench) -> None:
    """The user's and the bot's view of a member are equal, and @everyone is not among the roles."""
    guild_id = sim.guild(bot=True)

    own = bench.document(sim.as_user(f"/users/@me/guilds/{guild_id}/member"))
    seen = bench.document(sim.call(f"/guilds/{guild_id}/members/{sim.user}"))

    assert own == seen
    assert str(guild_id) not in own["roles"]


def test_a_user_is_unknown_when_they_are_not_in_the_guild() -> None:
    """The bot gets code 10007, and the user gets 10004 for the guild."""
    sim = bench.Bench("--users", "2", "--guilds-per-user", "2", "--guilds", "9", "--without-bot", "0")
    stranger = sim.state.world.user_ids[1]
    theirs = set(sim.state.world.guilds_of(sim.user)) - set(sim.state.world.guilds_of(stranger))
    guild_id = theirs.pop()

    by_bot = sim.call(f"/guilds/{guild_id}/members/{stranger}")
    by_himself = sim.as_user(f"/users/@me/guilds/{guild_id}/member", f"sim-user-{stranger}")

    assert (by_bot.status, bench.document(by_bot)["code"]) == (404, 10007)
    assert (by_himself.status, bench.document(by_himself)["code"]) == (404, 10004)


def test_users_me_returns_the_owner_of_the_token(sim: bench.Bench) -> None:
    """`/users/@me` is the user of a bearer token, and the bot with the bot token."""
    user, bot = bench.document(sim.as_user("/users/@me")), bench.document(sim.call("/users/@me"))

    assert user["id"] == str(sim.user)
    assert (bot["id"], bot["bot"]) == (str(sim.state.world.bot_id), True)
