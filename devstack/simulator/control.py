"""The simulator's control endpoints under /_sim: read and change the world, inject faults, read counters."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from devstack.simulator import (
    faults,
    foreign_traffic,
    gateway_control,
    models,
    mutations,
    network,
    payloads,
    routes,
    state,
    visibility,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LimitsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New budgets, each as capacity and window in seconds; omitted ones do not change."""

    bot: models.Limit | None = None
    user: models.Limit | None = None
    app: models.Limit | None = None
    routes: dict[str, models.Limit] = {}


class NetworkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new latency profile."""

    latency: str


class Control:
    """Handles the control endpoints of one simulator."""

    def __init__(self, simulator: state.SimulatorState, about: dict[str, Any]) -> None:
        self._simulator = simulator
        self._about = about

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the endpoints."""
        return [
            web.get("/about", self.about),
            web.get("/users", self.users),
            web.get("/truth/{user}", self.truth),
            web.get("/guilds/{guild}", self.guild),
            web.get("/stats", self.stats),
            web.post("/reset", self.reset),
            web.get("/faults", self.list_faults),
            web.post("/faults", self.add_faults),
            web.delete("/faults", self.clear_faults),
            web.post("/world", self.world),
            web.post("/foreign", self.foreign),
            web.post("/limits", self.limits),
            web.post("/network", self.network),
            web.get("/gateway", self.gateway),
            web.post("/gateway", self.break_gateway),
        ]

    async def about(self, _request: web.Request) -> web.Response:
        """Return the document that was printed at the start."""
        return _json_response(self._about)

    async def users(self, request: web.Request) -> web.Response:
        """List users with their newest tokens."""
        offset, limit = _number(request, "offset", 0), _number(request, "limit", 100)
        return _json_response(list_users(self._simulator, offset, limit))

    async def truth(self, request: web.Request) -> web.Response:
        """Return what one user can really see, by guild."""
        user = request.match_info["user"]
        simulated = self._simulator.world
        if not user.isdecimal() or simulated.user_name(int(user)) is None:
            return _error_response(404, f"there is no user {user}")
        guilds = (simulated.guild(guild_id) for guild_id in simulated.guilds_of(int(user)))
        seen = [visibility.true_view(simulated, guild, int(user)) for guild in guilds if guild is not None]
        return _json_response({"user": user, "guilds": seen})

    async def guild(self, request: web.Request) -> web.Response:
        """Return one guild with all its roles and channels."""
        text = request.match_info["guild"]
        guild = self._simulator.world.guild(int(text)) if text.isdecimal() else None
        if guild is None:
            return _error_response(404, f"there is no guild {text}")
        roles = [
            {"id": str(role.id), "name": role.name, "permissions": str(role.permissions), "bot": role.bot}
            for role in guild.roles
        ]
        all_channels = [
            payloads.channel(channel, guild.id) | {"hidden": channel.hidden}
            for channel in self._simulator.world.channels_of(guild)
        ]
        about = {"id": str(guild.id), "name": guild.name, "owner_id": str(guild.owner_id), "bot": guild.has_bot}
        return _json_response(about | {"bot_id": str(guild.bot_id), "roles": roles, "channels": all_channels})

    async def stats(self, request: web.Request) -> web.Response:
        """Return the counters; with `?log=1` also the latest arrivals."""
        simulator = self._simulator
        document = simulator.stats.document()
        document["would_be_rejections"] = simulator.limiter.document()
        document["invalid_requests_peak"] = simulator.invalid.most
        document["foreign"] = {"admitted": simulator.foreign.admitted, "refused": simulator.foreign.refused}
        document["now"] = simulator.clock.monotonic()
        if request.query.get("log") == "1":
            document["log"] = list(simulator.stats.log)
        return _json_response(document)

    async def reset(self, _request: web.Request) -> web.Response:
        """Reset counters and limits, and stop foreign traffic; the world, tokens and fault rules stay."""
        simulator = self._simulator
        simulator.stats.reset()
        simulator.limiter.reset()
        simulator.invalid.reset()
        simulator.foreign.reset()
        return _json_response({})

    async def list_faults(self, _request: web.Request) -> web.Response:
        """Return the active fault rules."""
        return _json_response(self._simulator.faults.document())

    async def add_faults(self, request: web.Request) -> web.Response:
        """Add fault rules."""
        rules = faults.parse(await request.read())
        self._simulator.faults.add(rules, self._simulator.clock.monotonic())
        return _json_response({"added": len(rules)})

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """Remove all fault rules."""
        self._simulator.faults.clear()
        return _json_response({})

    async def world(self, request: web.Request) -> web.Response:
        """Change the world; changes before a rejected one stay applied."""
        changes = mutations.parse(await request.read())
        return _json_response([mutations.apply(self._simulator, change) for change in changes])

    async def foreign(self, request: web.Request) -> web.Response:
        """Start traffic of another client with the bot's token."""
        spec = msgspec.json.decode(await request.read(), type=foreign_traffic.TrafficSpec)
        self._simulator.foreign.add(spec, self._simulator.clock.monotonic())
        return _json_response({"requests": int(spec.rate * spec.seconds)})

    async def limits(self, request: web.Request) -> web.Response:
        """Change budgets; a changed budget starts empty."""
        wanted = msgspec.json.decode(await request.read(), type=LimitsRequest)
        limits_given = [wanted.bot, wanted.user, wanted.app, *wanted.routes.values()]
        if any(limit is not None and (limit.capacity < 1 or limit.window <= 0) for limit in limits_given):
            return _error_response(400, "a limit needs a capacity of at least 1 and a window above 0 seconds")
        if not wanted.routes.keys() <= routes.ROUTES.keys():
            return _error_response(400, f"route must be one of: {', '.join(routes.ROUTES)}")
        sizes = self._simulator.sizes
        sizes.bot, sizes.user, sizes.app = wanted.bot or sizes.bot, wanted.user or sizes.user, wanted.app or sizes.app
        sizes.routes |= wanted.routes
        return _json_response({})

    async def network(self, request: web.Request) -> web.Response:
        """Change the latency profile."""
        wanted = msgspec.json.decode(await request.read(), type=NetworkRequest)
        self._simulator.network.path = network.profile(wanted.latency)
        return _json_response({})

    async def gateway(self, _request: web.Request) -> web.Response:
        """Return the Gateway's counters and sessions."""
        return _json_response(gateway_control.document(self._simulator.gateway))

    async def break_gateway(self, request: web.Request) -> web.Response:
        """Apply faults to the Gateway."""
        for fault in gateway_control.parse(await request.read()):
            gateway_control.apply(self._simulator.gateway, fault)
        return _json_response(gateway_control.document(self._simulator.gateway))


@web.middleware
async def report_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 400 with the reason when a document is invalid."""
    try:
        return await handler(request)
    except (msgspec.DecodeError, mutations.InvalidChange, ValueError) as problem:
        return _error_response(400, str(problem))


def list_users(simulator: state.SimulatorState, offset: int, limit: int) -> list[dict[str, str]]:
    """Return *limit* users with their newest tokens, starting at *offset*."""
    listed = []
    for user_id in simulator.world.user_ids[offset : offset + limit]:
        pair = simulator.tokens.newest_pair(user_id)
        listed.append({"id": str(user_id), "token": pair.access, "refresh_token": pair.refresh})
    return listed


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise ValueError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _json_response(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


def _error_response(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode({"error": message}), content_type="application/json")
