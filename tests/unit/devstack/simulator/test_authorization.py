"""`GET /oauth2/@me`: whose token it is."""

import pytest

from tests.unit.devstack.simulator import bench

PATH = "/oauth2/@me"


def test_the_authorization_names_application_scopes_expiry_and_user(sim: bench.Bench) -> None:
    """As documented; the expiry is the token's."""
    shown = bench.document(sim.as_user(PATH))

    assert shown["application"]["id"] == "sim-client"
    assert shown["scopes"] == ["guilds", "guilds.members.read", "identify"]
    assert shown["user"]["id"] == str(sim.user)
    assert shown["expires"].endswith("+00:00")


def test_the_authorization_names_no_user_without_the_scope_identify(sim: bench.Bench) -> None:
    """Any user's token is accepted; without the scope the field is missing."""
    pair = sim.state.tokens.consent(sim.user, frozenset({"guilds"}))

    reply = sim.as_user(PATH, pair.access)

    assert (reply.status, "user" in bench.document(reply)) == (200, False)


def test_the_authorization_names_the_other_application_of_a_foreign_token(sim: bench.Bench) -> None:
    """The user is the same."""
    shown = bench.document(sim.as_user(PATH, f"sim-foreign-{sim.user}"))

    assert (shown["application"]["id"], shown["user"]["id"]) == ("other-client", str(sim.user))


@pytest.mark.parametrize("token", ["sim-user-1", "junk", None])
def test_the_authorization_is_refused_for_junk_and_for_the_bot(sim: bench.Bench, token: str | None) -> None:
    """Discord answers 401 to a bot's token as well (discord-api-docs issue 3945)."""
    reply = sim.call(PATH) if token is None else sim.as_user(PATH, token)

    assert (reply.status, bench.document(reply)["code"]) == (401, 0)
