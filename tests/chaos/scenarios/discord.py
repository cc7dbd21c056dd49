"""Faults of Discord: outages, odd answers, each kind of 429, and changes of its data while jobs run."""

import json

from tests.chaos import fleet, play, waves

CHANNELS = waves.CHANNELS
GUILDS = "GET /users/@me/guilds"
TOKEN = "POST /oauth2/token"
WITH_ERRORS = ("SUCCEEDED", "SUCCEEDED_WITH_ERRORS")
ASKED_EVERY, OTHERS_EVERY = 5.0, 1.0
"""
Seconds between two questions of the fleet about a guild outside the set of the bot's guilds, and of one process about
any such guild (`indexing/usecases/bot_list.py`). The question is asked for one of the starts that list the guild.
"""


async def discord_outage(stage: play.Play) -> None:
    """Answer every call with 503 for five seconds."""
    await stage.pause(0.5, 1.5)
    stage.rule("outage", seconds=5.0)
    await stage.pause(5.0)


async def edge_outage(stage: play.Play) -> None:
    """Answer three of ten calls with a page of the edge for five seconds."""
    stage.rule("html", status=502, probability=0.3)
    await stage.pause(5.0)


async def server_errors(stage: play.Play) -> None:
    """Answer one of five calls with 500 for five seconds."""
    stage.rule("status", status=500, probability=0.2)
    await stage.pause(5.0)


async def broken_answers(stage: play.Play) -> None:
    """Reset, cut or truncate three of ten answers for five seconds."""
    for kind in ("reset", "cut", "truncate"):
        stage.rule(kind, probability=0.1)
    await stage.pause(5.0)


async def hanging_calls(stage: play.Play) -> None:
    """Leave eight calls without an answer for longer than their timeout."""
    stage.rule("hang", seconds=10.0, times=8, after=stage.dice.randint(0, 20))
    await stage.pause(6.0)


async def far_away(stage: play.Play) -> None:
    """Let each call take 0.5 to 1.5 s."""
    await stage.do(stage.discord, "network", {"latency": "500-1500"})
    stage.fault()
    await stage.pause(8.0)
    await stage.do(stage.discord, "network", {"latency": stage.fleet.shape.latency})


async def limited_user(stage: play.Play) -> None:
    """Answer six calls with a 429 of the route."""
    stage.rule("rate_limit", scope="user", retry_after=1.5, times=6, after=stage.dice.randint(0, 20))
    await stage.pause(4.0)


async def limited_globally(stage: play.Play) -> None:
    """Answer two calls with a global 429."""
    stage.rule("rate_limit", scope="global", retry_after=2.0, times=2, after=stage.dice.randint(0, 20))
    await stage.pause(4.0)


async def limited_shared(stage: play.Play) -> None:
    """Answer six fetches of channels with a shared 429."""
    stage.rule("rate_limit", scope="shared", retry_after=1.5, times=6, route=CHANNELS)
    await stage.pause(4.0)


async def limited_by_edge(stage: play.Play) -> None:
    """Answer two calls with the edge's page of a 429, without a wait in it."""
    stage.rule("html", status=429, times=2, after=stage.dice.randint(0, 20))
    await stage.pause(4.0)


async def absurd_wait(stage: play.Play) -> None:
    """Answer a fetch with a global 429 whose wait is 30 years, and lift the stop as an operator does."""
    _raw_429(stage, 1e9, "1000000000", scope="global")
    await stage.pause(4.0)
    await stage.do(stage.heal)  # a fetch that comes only now must not stop the fleet again after the lift
    stage.notes["stops"] = await stage.do(stage.fleet.run_command, "service-1", "stops")
    stage.notes["lifted"] = await stage.do(stage.fleet.run_command, "service-1", "stops", "lift")


async def no_wait(stage: play.Play) -> None:
    """Answer ten fetches with a 429 whose wait is zero."""
    _raw_429(stage, 0, "0", times=10)
    await stage.pause(4.0)


async def odd_wait(stage: play.Play) -> None:
    """Answer fetches with a 429 whose wait is text, negative, missing, or no number."""
    for wait in ("soon", -5, None, [1], True):
        _raw_429(stage, wait, str(wait))
    await stage.pause(4.0)


def _raw_429(stage: play.Play, wait: object, header: str, times: int = 1, scope: str = "user") -> None:
    body = {"message": "You are being rate limited.", "retry_after": wait, "global": scope == "global"}
    headers = {"Retry-After": header, "X-RateLimit-Scope": scope}
    stage.rule("raw", status=429, headers=headers, body=json.dumps(body), times=times, route=CHANNELS)


async def half_a_character(stage: play.Play) -> None:
    """Put half a surrogate pair into all names."""
    stage.rule("replace", find='"name":"', body='"name":"\\ud83d')
    await stage.pause(4.0)


async def odd_answers(stage: play.Play) -> None:
    """Answer ten fetches with 200 and a body that is no list of channels (decision 26)."""
    for body in ("", "{}", "[null]", '{"a": 1}', "<html></html>", '"a"', "[[]]", "1", "[1", "\u0000"):
        after = stage.dice.randint(0, 6)
        stage.rule("raw", status=200, body=body, times=1, after=after, route=CHANNELS)
    await stage.pause(4.0)


async def empty_bot_list(stage: play.Play) -> None:
    """Answer the first list of the bot's guilds as empty."""
    stage.rule("raw", status=200, body="[]", times=1, route=GUILDS, token="bot")
    await stage.pause(4.0)


async def expired_tokens(stage: play.Play) -> None:
    """Let all access tokens expire in the middle, and refuse two renewals for the moment."""
    await stage.pause(0.1, 1.0)
    stage.rule("status", status=503, route=TOKEN, times=2)
    for user in stage.users:
        await stage.do(stage.discord, "world", {"op": "expire_token", "user": user})
    await stage.pause(4.0)


async def revoked_grant(stage: play.Play) -> None:
    """Let two users take their consent back in the middle, and give it again."""
    chosen = stage.dice.sample(stage.users, 2)
    await stage.pause(0.1, 1.0)
    stage.fault()
    for user in chosen:
        await stage.do(stage.discord, "world", {"op": "revoke_grant", "user": user})
    await stage.pause(6.0)
    for user in chosen:
        await stage.consent(user)


async def other_traffic(stage: play.Play) -> None:
    """Let another client use the bot's token at a fifth of its limit."""
    stage.foreign = True
    await stage.do(stage.discord, "foreign", {"rate": stage.fleet.shape.rate / 5, "seconds": 8})
    await stage.pause(8.0)


async def moving_world(stage: play.Play) -> None:
    """Remove the bot, members and channels, and bring the bot and members back, while jobs run."""
    stage.world_moves = stage.forces = True
    truth = await stage.do(stage.discord, f"truth/{stage.users[0]}")
    guilds = [guild["id"] for guild in truth["guilds"] if guild["bot"] and not guild["owner"]][:4]
    for present in (False, True):
        for guild in guilds[:2]:
            await stage.do(stage.discord, "world", {"op": "change_guild", "guild": guild, "bot": present})
        for guild in guilds[2:]:
            change = {"op": "change_member", "guild": guild, "user": stage.users[0], "joined": present}
            await stage.do(stage.discord, "world", change)
        stage.fault()
        await stage.pause(1.0, 2.0)
    await stage.pause(ASKED_EVERY)
    # The first start may join the job of the wave, each of the others notices one guild, and each may fetch all again.
    for _ in range(3):
        await stage.pause(OTHERS_EVERY)
        stage.fault()
        await stage.load.watch(await stage.start(stage.users[0], force=True, watchers=1))


async def late_rights(stage: play.Play) -> None:
    """Hold a process' writes to MongoDB; take roles away and hide channels meanwhile; then deliver the writes."""
    stage.world_moves = stage.forces = True
    await stage.pause(0.5, 1.5)
    name = stage.dice.choice(stage.fleet.processes)
    links = stage.to("mongodb", name)
    stage.fault()
    for link in links:
        link.hold()
    await stage.pause(0.5)
    await stage.do(waves.change_world, stage)
    await stage.pause(4.5)
    await stage.start_all(force=True, watchers=1)
    await stage.pause(3.0)
    for link in links:
        link.release()


SCENARIOS = [
    waves.Scenario("discord-outage", "discord", "Jobs wait out an outage of Discord.", discord_outage),
    waves.Scenario("edge-outage", "discord", "Jobs wait out an outage of the edge.", edge_outage, ends=WITH_ERRORS),
    waves.Scenario("server-errors", "discord", "Failed calls are repeated.", server_errors, ends=WITH_ERRORS),
    waves.Scenario(
        "broken-answers", "discord", "Broken answers are asked for again.", broken_answers, ends=WITH_ERRORS
    ),
    waves.Scenario("hanging-calls", "discord", "Calls without an answer hold their permits.", hanging_calls),
    waves.Scenario("far-away", "discord", "A slow Discord slows jobs down.", far_away, fleet.PATIENT),
    waves.Scenario("limited-user", "discord", "A 429 of a route pauses the route.", limited_user),
    waves.Scenario("limited-globally", "discord", "A global 429 pauses the bot.", limited_globally),
    waves.Scenario("limited-shared", "discord", "A shared 429 pauses the guild's route.", limited_shared),
    waves.Scenario(
        "limited-by-edge", "discord", "A 429 of the edge pauses the address.", limited_by_edge, patience=180.0
    ),
    waves.Scenario("absurd-wait", "discord", "An operator sees and lifts a stop of years.", absurd_wait),
    waves.Scenario("no-wait", "discord", "A wait of zero grows.", no_wait, ends=WITH_ERRORS),
    waves.Scenario("odd-wait", "discord", "A wait that is no number counts as missing.", odd_wait, ends=WITH_ERRORS),
    waves.Scenario("half-a-character", "discord", "Broken text in names is replaced.", half_a_character),
    waves.Scenario(
        "odd-answers", "discord", "An answer that is none is asked for again.", odd_answers, ends=WITH_ERRORS
    ),
    waves.Scenario("empty-bot-list", "discord", "An empty list of the bot's guilds is verified.", empty_bot_list),
    waves.Scenario("expired-tokens", "discord", "Expired tokens are renewed once.", expired_tokens),
    waves.Scenario(
        "revoked-grant",
        "discord",
        "A user who takes consent back fails alone.",
        revoked_grant,
        ends=("SUCCEEDED", "FAILED"),
    ),
    waves.Scenario("other-traffic", "discord", "Traffic of another client is noticed.", other_traffic),
    waves.Scenario("moving-world", "discord", "Discord's data may change while a job runs.", moving_world),
    waves.Scenario("late-rights", "discord", "A late write never brings lost rights back.", late_rights),
]
