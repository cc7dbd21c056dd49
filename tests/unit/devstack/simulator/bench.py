"""A simulator without a socket, with a manual clock."""

import json
from typing import Any

from devstack.simulator import app, calls, options, replies, request_pipeline

AGENT = "DiscordBot (https://example.org, 1.0)"


BOT = "Bot sim-bot-token"


class ManualClock:
    """A clock that only advances when a test sets it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self.now

    def wall(self) -> float:
        """Seconds since 1970."""
        return 1_795_000_000.0 + self.now


class Bench:
    """One simulator with its request pipeline, called without a network."""

    def __init__(self, *arguments: str) -> None:
        self.clock = ManualClock()
        chosen = options.parse(["--latency", "none", "--today", "2026-11-23", *arguments])
        self.state = app.make_state(chosen, self.clock)
        self.pipeline = request_pipeline.RequestPipeline(self.state)

    @property
    def user(self) -> int:
        """The first user."""
        return self.state.world.user_ids[0]

    def guild(self, *, bot: bool) -> int:
        """Find a guild of the first user that has our bot, or lacks it."""
        installed = set(self.state.world.bot_guilds())
        return next(one for one in self.state.world.guilds_of(self.user) if (one in installed) == bot)

    def call(self, path: str, token: str = BOT, **headers: str) -> replies.Reply:
        """Send a GET with *token* as its Authorization header; an empty one is left out."""
        bare, _, query = path.partition("?")
        pairs = dict(pair.split("=") for pair in query.split("&")) if query else {}
        sent = {"User-Agent": AGENT} | ({"Authorization": token} if token else {})
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.pipeline.handle_call(calls.Call("GET", f"/api/v10{bare}", pairs, sent))

    def as_user(self, path: str, token: str | None = None) -> replies.Reply:
        """Send a GET with the first user's token."""
        return self.call(path, f"Bearer {token or self.state.tokens.newest_pair(self.user).access}")

    def post(self, path: str, form: str, **headers: str) -> replies.Reply:
        """Send a form."""
        sent = {"User-Agent": AGENT, "Content-Type": "application/x-www-form-urlencoded"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.pipeline.handle_call(calls.Call("POST", path, {}, sent, form.encode()))


def document(reply: replies.Reply) -> Any:  # noqa: ANN401 - any JSON document
    """Return a reply's body, decoded."""
    return json.loads(reply.body)
