"""The command line."""

import pytest

from devstack.simulator import models, options


def test_the_defaults_are_those_of_the_demo() -> None:
    """The defaults are one user, 60 guilds, Discord's limits, all models, and the typical profile."""
    chosen = options.parse([])

    assert (chosen.users, chosen.guilds_per_user, chosen.enforce) == (1, 60, "all")
    assert chosen.global_limit == models.Limit(50, 1.0)
    assert chosen.user_limit == models.Limit(5, 5.0)
    assert chosen.latency.least == 0.030


def test_routes_have_the_given_limits() -> None:
    """A route limit names its route as in the documentation."""
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
def test_the_option_is_named_when_it_is_invalid(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The program exits with the option's name."""
    with pytest.raises(SystemExit):
        options.parse(arguments)

    assert arguments[0] in capsys.readouterr().err
