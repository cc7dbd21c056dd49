"""Faults of the network between two parts."""

from tests.chaos import fleet, play, waves

SERVERS = ("redis", "mongodb", "discord")


async def cut_redis(stage: play.Play) -> None:
    """Reset all connections to Redis five times."""
    for _ in range(5):
        await stage.pause(0.3, 1.0)
        stage.cut(stage.to("redis"))


async def cut_mongodb(stage: play.Play) -> None:
    """Reset all connections to MongoDB five times."""
    for _ in range(5):
        await stage.pause(0.3, 1.0)
        stage.cut(stage.to("mongodb"))


async def cut_discord(stage: play.Play) -> None:
    """Reset all connections to Discord five times."""
    for _ in range(5):
        await stage.pause(0.3, 1.0)
        stage.cut(stage.to("discord"))


async def cut_callers(stage: play.Play) -> None:
    """Reset all connections of callers and watchers ten times."""
    for _ in range(10):
        await stage.pause(0.2, 0.6)
        stage.cut(stage.callers_links())


async def slow_redis(stage: play.Play) -> None:
    """Delay every piece to and from Redis by 20 to 60 ms."""
    await stage.lasting(stage.to("redis"), 8.0, delay=(0.02, 0.06))


async def slow_mongodb(stage: play.Play) -> None:
    """Delay every piece to and from MongoDB by 50 to 150 ms."""
    await stage.lasting(stage.to("mongodb"), 10.0, delay=(0.05, 0.15))


async def lossy_network(stage: play.Play) -> None:
    """Lose 3 % of the pieces on all links."""
    await stage.lasting((link for server in SERVERS for link in stage.to(server)), 8.0, loss=0.03)


async def narrow_discord(stage: play.Play) -> None:
    """Let 60 KB per second through from Discord to each process."""
    await stage.lasting(stage.to("discord"), 8.0, rate=60_000.0)


async def late_mongodb(stage: play.Play) -> None:
    """Hold everything between one process and MongoDB beyond its timeout, and deliver it then."""
    await stage.pause(0.5, 1.5)
    await stage.held(stage.to("mongodb", stage.dice.choice(stage.fleet.processes)), 6.0)


async def late_redis(stage: play.Play) -> None:
    """Hold everything between one process and Redis beyond its timeout, and deliver it then."""
    await stage.pause(0.5, 1.5)
    await stage.held(stage.to("redis", stage.dice.choice(stage.fleet.processes)), 5.0)


async def late_discord(stage: play.Play) -> None:
    """Hold everything between the workers and Discord beyond the timeout of a call, and deliver it then."""
    await stage.pause(0.5, 1.5)
    await stage.held(stage.to("discord", "worker"), 4.0)


async def blackhole_redis(stage: play.Play) -> None:
    """Swallow everything between one worker and Redis."""
    await stage.pause(0.5, 1.5)
    await stage.lasting(stage.to("redis", "worker-1"), 5.0, blackhole=True)


async def blackhole_mongodb(stage: play.Play) -> None:
    """Swallow everything between one worker and MongoDB."""
    await stage.pause(0.5, 1.5)
    await stage.lasting(stage.to("mongodb", "worker-1"), 5.0, blackhole=True)


async def blackhole_callers(stage: play.Play) -> None:
    """Swallow everything between callers and one service, so that they must notice by themselves."""
    await stage.pause(0.2, 1.0)
    await stage.lasting(stage.callers_links()[:1], 6.0, blackhole=True)


async def half_closed(stage: play.Play) -> None:
    """Send FIN to every process on every connection, three times."""
    for _ in range(3):
        await stage.pause(0.3, 1.0)
        stage.fault()
        for server in SERVERS:
            for link in stage.to(server):
                link.half_close()


async def lost_replies(stage: play.Play) -> None:
    """Reset a connection in place of a reply, six times for each pair of parts."""
    for _ in range(6):
        await stage.pause(0.3, 0.8)
        stage.fault()
        for server in SERVERS:
            for link in stage.to(server):
                link.weather.lose_reply = True


async def islands(stage: play.Play) -> None:
    """Take each server away from another process at the same time."""
    await stage.pause(0.3, 1.0)
    names = list(stage.fleet.processes)
    stage.dice.shuffle(names)
    chosen = [link for server, name in zip(SERVERS, names, strict=False) for link in stage.to(server, name)]
    for link in chosen:
        link.cut()
    await stage.lasting(chosen, 4.0, refuse=True)


SCENARIOS = [
    waves.Scenario("cut-redis", "links", "Connections to Redis may break at any time.", cut_redis),
    waves.Scenario("cut-mongodb", "links", "Connections to MongoDB may break at any time.", cut_mongodb),
    waves.Scenario("cut-discord", "links", "Connections to Discord may break at any time.", cut_discord),
    waves.Scenario("cut-callers", "links", "Watchers resume on any service when their streams break.", cut_callers),
    waves.Scenario("slow-redis", "links", "A slow Redis slows jobs down and breaks none.", slow_redis),
    waves.Scenario("slow-mongodb", "links", "A slow MongoDB slows jobs down and breaks none.", slow_mongodb),
    waves.Scenario("lossy-network", "links", "Lost segments delay jobs and break none.", lossy_network, fleet.PATIENT),
    waves.Scenario("narrow-discord", "links", "A narrow way from Discord delays jobs.", narrow_discord, fleet.PATIENT),
    waves.Scenario("late-mongodb", "links", "A write that arrives late changes nothing newer.", late_mongodb),
    waves.Scenario("late-redis", "links", "A command that arrives late exceeds no limit.", late_redis),
    waves.Scenario("late-discord", "links", "A call that arrives late exceeds no limit.", late_discord, fleet.PATIENT),
    waves.Scenario("blackhole-redis", "links", "A worker without Redis leaves its jobs to others.", blackhole_redis),
    waves.Scenario(
        "blackhole-mongodb", "links", "A worker without MongoDB leaves its jobs to others.", blackhole_mongodb
    ),
    waves.Scenario(
        "blackhole-callers", "links", "Watchers whose service vanishes resume on another.", blackhole_callers
    ),
    waves.Scenario("half-closed", "links", "Connections that a server has closed are replaced.", half_closed),
    waves.Scenario("lost-replies", "links", "A command whose reply is lost takes effect once.", lost_replies),
    waves.Scenario("islands", "links", "Each process may lose another server at the same time.", islands),
]
