"""The simulator's own endpoints under /_sim: look at the world, change it, break calls, read the counters."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from devstack.simulator import faults, foreign, models, mutations, network, parts, payloads, routes, sight

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New sizes of budgets, each as capacity and window in seconds; what is left out stays."""

    bot: models.Limit | None = None
    user: models.Limit | None = None
    app: models.Limit | None = None
    routes: dict[str, models.Limit] = {}


class Path(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another latency profile."""

    latency: str


class Control:
    """Answers for one simulator."""

    def __init__(self, held: parts.Parts, shown: dict[str, Any]) -> None:
        self._held = held
        self._shown = shown

    def routes(self) -> list[web.RouteDef]:
        """List the endpoints."""
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
        ]

    async def about(self, _request: web.Request) -> web.Response:
        """Show again what was printed at the start."""
        return _answer(self._shown)

    async def users(self, request: web.Request) -> web.Response:
        """List users with their newest tokens."""
        offset, limit = _number(request, "offset", 0), _number(request, "limit", 100)
        return _answer(users(self._held, offset, limit))

    async def truth(self, request: web.Request) -> web.Response:
        """Tell what one user may really see, guild by guild."""
        user = request.match_info["user"]
        played = self._held.world
        if not user.isdecimal() or played.user_name(int(user)) is None:
            return _problem(404, f"there is no user {user}")
        guilds = (played.guild(guild_id) for guild_id in played.guilds_of(int(user)))
        seen = [sight.truth(played, guild, int(user)) for guild in guilds if guild is not None]
        return _answer({"user": user, "guilds": seen})

    async def guild(self, request: web.Request) -> web.Response:
        """Show one guild with all its roles and channels, whoever may see them."""
        text = request.match_info["guild"]
        guild = self._held.world.guild(int(text)) if text.isdecimal() else None
        if guild is None:
            return _problem(404, f"there is no guild {text}")
        roles = [
            {"id": str(role.id), "name": role.name, "permissions": str(role.permissions), "bot": role.bot}
            for role in guild.roles
        ]
        every = [
            payloads.channel(channel, guild.id) | {"hidden": channel.hidden}
            for channel in self._held.world.channels_of(guild)
        ]
        shown = {"id": str(guild.id), "name": guild.name, "owner_id": str(guild.owner_id), "bot": guild.has_bot}
        return _answer(shown | {"bot_id": str(guild.bot_id), "roles": roles, "channels": every})

    async def stats(self, request: web.Request) -> web.Response:
        """Show the counters, with `?log=1` the last arrivals as well."""
        held = self._held
        document = held.stats.document()
        document["would_be_rejections"] = held.limiter.document()
        document["invalid_requests_peak"] = held.invalid.most
        document["foreign"] = {"admitted": held.foreign.admitted, "refused": held.foreign.refused}
        document["now"] = held.clock.monotonic()
        if request.query.get("log") == "1":
            document["log"] = list(held.stats.log)
        return _answer(document)

    async def reset(self, _request: web.Request) -> web.Response:
        """Zero counters and limits, end foreign traffic; the world, its tokens and the fault rules stay."""
        held = self._held
        held.stats.reset()
        held.limiter.reset()
        held.invalid.reset()
        held.foreign.reset()
        return _answer({})

    async def list_faults(self, _request: web.Request) -> web.Response:
        """Show the fault rules in force."""
        return _answer(self._held.faults.document())

    async def add_faults(self, request: web.Request) -> web.Response:
        """Put fault rules into force."""
        rules = faults.parse(await request.read())
        self._held.faults.add(rules, self._held.clock.monotonic())
        return _answer({"added": len(rules)})

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """Let everything work again."""
        self._held.faults.clear()
        return _answer({})

    async def world(self, request: web.Request) -> web.Response:
        """Change the world; changes before a refused one have happened."""
        changes = mutations.parse(await request.read())
        return _answer([change.apply(self._held) for change in changes])

    async def foreign(self, request: web.Request) -> web.Response:
        """Start traffic of somebody else on our bot token."""
        order = msgspec.json.decode(await request.read(), type=foreign.Order)
        self._held.foreign.add(order, self._held.clock.monotonic())
        return _answer({"requests": int(order.rate * order.seconds)})

    async def limits(self, request: web.Request) -> web.Response:
        """Change the sizes of budgets; a changed budget starts empty."""
        wanted = msgspec.json.decode(await request.read(), type=Sizes)
        limits_given = [wanted.bot, wanted.user, wanted.app, *wanted.routes.values()]
        if any(limit is not None and (limit.capacity < 1 or limit.window <= 0) for limit in limits_given):
            return _problem(400, "a limit needs a capacity of at least 1 and a window above 0 seconds")
        if not wanted.routes.keys() <= routes.ROUTES.keys():
            return _problem(400, f"route must be one of: {', '.join(routes.ROUTES)}")
        sizes = self._held.sizes
        sizes.bot, sizes.user, sizes.app = wanted.bot or sizes.bot, wanted.user or sizes.user, wanted.app or sizes.app
        sizes.routes |= wanted.routes
        return _answer({})

    async def network(self, request: web.Request) -> web.Response:
        """Change the latency profile."""
        wanted = msgspec.json.decode(await request.read(), type=Path)
        self._held.network.path = network.profile(wanted.latency)
        return _answer({})


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 400 with the reason when a document cannot be accepted."""
    try:
        return await handler(request)
    except (msgspec.DecodeError, mutations.Impossible, ValueError) as problem:
        return _problem(400, str(problem))


def users(held: parts.Parts, offset: int, limit: int) -> list[dict[str, str]]:
    """List users with their newest tokens, from the *offset*-th on."""
    listed = []
    for user_id in held.world.user_ids[offset : offset + limit]:
        pair = held.tokens.newest(user_id)
        listed.append({"id": str(user_id), "token": pair.access, "refresh_token": pair.refresh})
    return listed


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise ValueError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _answer(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


def _problem(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode({"error": message}), content_type="application/json")
