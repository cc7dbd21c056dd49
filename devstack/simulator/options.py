"""The command line's options, with units and defaults."""

import argparse
import dataclasses
import datetime
import re
from collections.abc import Sequence

from devstack.simulator import models, network, routes


def _limit(text: str) -> models.Limit:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d{1,3})?)", text)
    if match is None or int(match[1]) < 1 or float(match[2]) <= 0:
        raise argparse.ArgumentTypeError(f"must look like 50/1 (requests/seconds), not {text!r}")
    return models.Limit(int(match[1]), float(match[2]))


def _route_limit(text: str) -> tuple[str, models.Limit]:
    name, _, size = text.rpartition("=")
    if name not in routes.ROUTES:
        raise argparse.ArgumentTypeError(f"route must be one of: {', '.join(routes.ROUTES)}")
    return name, _limit(size)


def _latency(text: str) -> network.Profile:
    try:
        return network.profile(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem


def _day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {text}")
    return share


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must lie between 1 and 1000000, not {text}")
    return number


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of one simulator."""

    host: str
    port: int
    seed: int
    users: int
    guilds_per_user: int
    guilds: int
    no_sharing: bool
    channels_per_guild: int
    without_bot: float
    bot_token: str
    client_id: str
    client_secret: str
    token_lifetime: int
    latency: network.Profile
    global_limit: models.Limit
    user_limit: models.Limit
    route_limit: Sequence[tuple[str, models.Limit]]
    invalid_limit: models.Limit
    enforce: str
    show_users: int
    today: datetime.date | None
    with_parent: bool
    gateway_heartbeat: float
    gateway_shards: int
    gateway_concurrency: int
    gateway_identifies: int
    gateway_identify_window: float
    gateway_session_life: float
    gateway_members: bool


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line; prints help and exits on an invalid option."""
    parser = argparse.ArgumentParser(prog="python -m devstack.simulator", description="Simulates Discord's HTTP API.")
    _add_world(parser)
    _add_identities(parser)
    _add_behaviour(parser)
    _add_gateway(parser)
    return Options(**vars(parser.parse_args(arguments)))


def _add_world(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("world")
    add = group.add_argument
    add("--seed", type=int, default=1, help="equal seeds and sizes make equal worlds (default 1)")
    add("--users", type=_positive, default=1, help="number of users (default 1)")
    add("--guilds-per-user", type=_positive, default=60, help="guilds of each user, exactly (default 60)")
    add("--guilds", type=int, default=0, help="number of guilds; 0 derives it so that users share some (default 0)")
    add("--no-sharing", action="store_true", help="users share no guilds; --guilds has no effect")
    add("--channels-per-guild", type=_positive, default=32, help="average number of channels of a guild (default 32)")
    add("--without-bot", type=_share, default=0.22, help="share of guilds without the bot (default 0.22)")
    add(
        "--today",
        type=_day,
        help="date of the newest activity, as 2026-11-23 (default: today)",
    )
    add("--show-users", type=int, default=10, help="users in the JSON printed at the start (default 10)")


def _add_identities(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("identities").add_argument
    add("--bot-token", default="sim-bot-token", help="default sim-bot-token")
    add("--client-id", default="sim-client", help="of the application, for the token endpoint (default sim-client)")
    add("--client-secret", default="sim-secret", help="default sim-secret")
    add("--token-lifetime", type=_positive, default=604_800, help="of access tokens, in seconds (default 604800)")


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("behaviour").add_argument
    models_named = ("all", *models.NAMES, "none")
    add("--host", default="127.0.0.1", help="address; use others only in a private network (default 127.0.0.1)")
    add("--port", type=int, default=0, help="port; 0 takes a free one (default 0)")
    add("--with-parent", action="store_true", help="exit when the parent process ends")
    add(
        "--latency",
        type=_latency,
        default="typical",
        help="round trip: none, lan, typical, bad, or a range in ms such as 20-60",
    )
    add("--global-limit", type=_limit, default="50/1", help="of the bot token, requests/seconds (default 50/1)")
    add("--user-limit", type=_limit, default="5/5", help="of each user, requests/seconds (default 5/5)")
    add("--route-limit", type=_route_limit, default=[], action="append", metavar="ROUTE=N/W", help="of one route")
    add(
        "--invalid-limit",
        type=_limit,
        default="10000/600",
        help="401, 403 and 429 per address before a ban (default 10000/600)",
    )
    add("--enforce", choices=models_named, default="all", help="counting models that answer 429 (default all)")


def _add_gateway(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("gateway").add_argument
    add("--gateway-heartbeat", type=float, default=41.25, help="interval of heartbeats in seconds (default 41.25)")
    add("--gateway-shards", type=_positive, default=1, help="recommended number of shards (default 1)")
    add("--gateway-concurrency", type=_positive, default=1, help="identifies in each window (default 1)")
    add("--gateway-identifies", type=_positive, default=1_000, help="identifies a day (default 1000)")
    add("--gateway-identify-window", type=float, default=5.0, help="seconds of the identify window (default 5)")
    add("--gateway-session-life", type=float, default=90.0, help="seconds to resume a lost connection (default 90)")
    add("--gateway-members", action="store_true", help="the intent GUILD_MEMBERS is granted")
