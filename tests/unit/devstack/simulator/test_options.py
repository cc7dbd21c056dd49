"""The command line."""

import pytest

from devstack.simulator import models, options


def test_the_demo_is_played_when_nothing_is_chosen() -> None:
    """The defaults are one user, 60 guilds, Discord's limits, all models, a typical path."""
    chosen = options.parse([])

    assert (chosen.users, chosen.guilds_per_user, chosen.enforce) == (1, 60, "all")
    assert chosen.global_limit == models.Limit(50, 1.0)
    assert chosen.user_limit == models.Limit(5, 5.0)
    assert chosen.latency.least == 0.030


def test_routes_have_their_own_limits_when_they_are_given() -> None:
    """A route limit names its route as the docs write it."""
    chosen = options.parse(["--route-limit", "GET /users/@me=3/1.5", "--route-limit", "GET /users/@me/guilds=1/1"])

    assert dict(chosen.route_limit) == {
        "GET /users/@me": models.Limit(3, 1.5),
        "GET /users/@me/guilds": models.Limit(1, 1.0),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--global-limit", "50"],
        ["--user-limit", "0/5"],
        ["--route-limit", "GET /x=1/1"],
        ["--latency", "warp"],
        ["--enforce", "some"],
        ["--users", "0"],
        ["--without-bot", "2"],
        ["--today", "yesterday"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_program_explains_itself_when_an_option_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake ends the program with the option's name."""
    with pytest.raises(SystemExit):
        options.parse(arguments)

    assert arguments[0] in capsys.readouterr().err
