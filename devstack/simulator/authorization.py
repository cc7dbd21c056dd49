"""`GET /oauth2/@me`: the application, the scopes, the expiry and the user of a token (developers/topics/oauth2.mdx)."""

from devstack.simulator import calls, payloads, replies, state


class Authorization:
    """Describes the grant that a call's token belongs to."""

    def __init__(self, simulator: state.SimulatorState) -> None:
        self._simulator = simulator

    def describe(self, call: calls.Call) -> replies.Reply:
        """Return the reply to a call with a user's token."""
        identity, clock = call.identity, self._simulator.clock
        assert identity is not None
        ends = clock.wall() + identity.expires - clock.monotonic()
        user = None
        if "identify" in identity.scopes:
            user = payloads.user(identity.user_id, self._simulator.world.user_name(identity.user_id) or "")
        return replies.json_reply(
            payloads.authorization(identity.application, sorted(identity.scopes), int(ends * 1000), user)
        )
