"""Load, and callers that misbehave."""

import asyncio
import collections

import grpc
import grpc.aio
import pymongo
from google.protobuf import duration_pb2

from devstack import probes
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.chaos import callers, fleet, play, waves

STARTS, STARTS_SECONDS = 2_000, 10.0
VANISHING = 5_000
STREAMS_A_CONNECTION = 100
KEEPALIVE = 60.0
"""Seconds after which the service has closed the streams of a caller that is gone; its keepalive takes 40."""
CANCELLED = ("SUCCEEDED", "CANCELLED")


async def cancel_storm(stage: play.Play) -> None:
    """Cancel all jobs again and again while they are started again."""
    for _ in range(3):
        await stage.pause(0.1, 0.6)
        jobs = list(stage.seen.jobs)
        cancels = (
            stage.load.call("CancelJob", pb.CancelJobRequest(job_id=job_id), number)
            for number, job_id in enumerate(jobs * 2)
        )
        await asyncio.gather(*cancels)
        await stage.start_all(force=False, watchers=1)


async def cancel_while_listing(stage: play.Play) -> None:
    """Cancel each job at a random moment of its first second, while its guild list is read."""

    async def cancel(user: str) -> None:
        job_id = await stage.start(user, watchers=1)
        await stage.pause(0.0, 1.0)
        await stage.load.call("CancelJob", pb.CancelJobRequest(job_id=job_id))

    for _ in range(3):
        stage.fault()
        await asyncio.gather(*map(cancel, stage.users))


async def retry_storm(stage: play.Play) -> None:
    """Let guilds fail, and let three callers at once retry each job that ended with errors."""
    truth = await stage.do(stage.discord, f"truth/{stage.users[0]}")
    for guild in [guild["id"] for guild in truth["guilds"] if guild["bot"]][:3]:
        stage.rule("status", status=500, route=waves.CHANNELS, guild=guild)
    await stage.all_started()
    await stage.pause(6.0)
    stage.heal()
    watched = await stage.ends()
    failed = [one.job_id for one in watched if one.state == "SUCCEEDED_WITH_ERRORS"]
    stage.notes["failed"] = len(failed)
    for job_id in failed:
        request = pb.RetryJobRequest(job_id=job_id)
        answers = await asyncio.gather(*(_retry(stage, request, number) for number in range(3)))
        for new in {answer for answer in answers if answer}:
            stage.follow(new, stage.seen.jobs[job_id])


async def _retry(stage: play.Play, request: pb.RetryJobRequest, number: int) -> str:
    try:
        answer = await stage.load.stubs[number % 2].RetryJob(request, timeout=callers.CALL_TIMEOUT)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            stage.load.problem("RetryJob", error)
        return ""
    return str(answer.job.job_id)


async def many_starts(stage: play.Play) -> None:
    """Start 2,000 jobs in ten seconds, most of which join a running one."""

    async def one(number: int) -> None:
        await asyncio.sleep(number * STARTS_SECONDS / STARTS)
        await stage.start(stage.users[number % len(stage.users)], number=number)

    await asyncio.gather(*map(one, range(STARTS)))
    stage.notes["jobs"] = len(stage.seen.jobs)


async def all_at_once(_: play.Play) -> None:
    """Add nothing to the wave of jobs."""


async def vanishing_watchers(stage: play.Play) -> None:
    """Open 5,000 streams, and let their callers vanish without FIN."""
    jobs = await stage.all_started()
    link = stage.callers_links()[0]
    address = stage.fleet.callers_addresses[0]
    connections = [
        grpc.aio.insecure_channel(address, options=[*callers.OPTIONS[:2], ("grpc.keepalive_time_ms", 600_000)])
        for _ in range(VANISHING // STREAMS_A_CONNECTION)
    ]
    streams = []
    for number in range(VANISHING):
        stub: callers.Stub = pb_grpc.IndexerServiceStub(connections[number % len(connections)])
        request = pb.WatchProgressRequest(job_id=jobs[number % len(jobs)], heartbeat=duration_pb2.Duration(seconds=60))
        streams.append(stub.WatchProgress(request))
    heard = collections.Counter(await asyncio.gather(*(_first(stream) for stream in streams)))
    stage.notes["streams"] = dict(heard)
    stage.fault()
    link.weather.blackhole = True
    await stage.pause(1.0)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*(connection.close(None) for connection in connections))
    link.weather.blackhole = False
    if not await stage.until(lambda: open_streams(stage.fleet) < VANISHING / 2, KEEPALIVE):
        stage.load.problems[f"{open_streams(stage.fleet):g} streams of vanished callers stay open"] += 1


async def _first(stream: callers.Stub) -> str:
    try:
        await asyncio.wait_for(stream.read(), 30)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "open"


def open_streams(running: fleet.Fleet) -> float:
    """Return the number of open streams of all services, as their metrics say."""
    pages = [probes.read_page(url)[1].decode() for name, url in running.metrics_urls.items() if "service" in name]
    lines = [line for page in pages for line in page.splitlines() if line.startswith("indexer_streams_open ")]
    return sum(float(line.split()[1]) for line in lines)


async def erased_in_the_middle(stage: play.Play) -> None:
    """Erase two users while their jobs run, three times each; nothing of them may remain."""
    stage.world_moves = True
    chosen = stage.dice.sample(stage.users, 2)
    await stage.pause(0.2, 1.5)
    stage.fault()
    stage.erase(chosen)
    for _ in range(3):
        await asyncio.gather(
            *(stage.load.call("DeleteUserData", pb.DeleteUserDataRequest(user_id=user)) for user in chosen)
        )
    stage.erase(chosen)
    await stage.pause(4.0)
    left = await stage.do(_documents_of, stage, chosen)
    if left:
        stage.load.problems[f"an erased user has documents: {left}"] += 1
    await stage.do(stage.fleet.put_credentials)


def _documents_of(stage: play.Play, users: list[str]) -> dict[str, int]:
    ids = [int(user) for user in users]
    with pymongo.MongoClient[dict[str, object]](stage.fleet.mongodb_url) as client:
        database = client[stage.fleet.database]
        left = {
            "users": database["users"].count_documents({"_id": {"$in": ids}, "erased_at": None}),
            "credentials": database["credentials"].count_documents({"_id": {"$in": ids}}),
            "jobs": database["jobs"].count_documents({"user_id": {"$in": ids}}),
        }
    return {name: count for name, count in left.items() if count}


async def pages_under_change(stage: play.Play) -> None:
    """Read all pages of all users again and again while jobs run."""
    for _ in range(10):
        await asyncio.gather(*(stage.load.channels(user) for user in stage.users))
        await stage.pause(0.1, 0.3)


async def preferences_storm(stage: play.Play) -> None:
    """Change the preferences of all users again and again while jobs run."""
    for _ in range(6):
        requests = []
        for user in stage.users:
            guilds = [guild["id"] for guild in (await stage.do(stage.discord, f"truth/{user}"))["guilds"]]
            pinned = pb.Preferences(pinned_guild_ids=stage.dice.sample(guilds, 3))
            requests.append(pb.UpdatePreferencesRequest(user_id=user, preferences=pinned))
        await asyncio.gather(*(stage.load.call("UpdatePreferences", request) for request in requests))
        await stage.pause(0.1, 0.5)


async def silent_watchers(stage: play.Play) -> None:
    """Open 200 streams whose callers read nothing."""
    jobs = await stage.all_started()
    streams = [
        stage.load.stubs[number % 2].WatchProgress(pb.WatchProgressRequest(job_id=jobs[number % len(jobs)]))
        for number in range(200)
    ]
    await stage.pause(6.0)
    for stream in streams:
        stream.cancel()


SCENARIOS = [
    waves.Scenario("cancel-storm", "load", "A cancelled job has ended.", cancel_storm, ends=CANCELLED),
    waves.Scenario(
        "cancel-while-listing", "load", "No guild stays open in a cancelled job.", cancel_while_listing, ends=CANCELLED
    ),
    waves.Scenario(
        "retry-storm",
        "load",
        "Callers that retry at once share one job.",
        retry_storm,
        fleet.Shape(settings={"INDEXING_RETRY_BASE": "0.1", "INDEXING_MAX_ATTEMPTS": "2"}),
        ends=("SUCCEEDED", "SUCCEEDED_WITH_ERRORS"),
    ),
    waves.Scenario(
        "many-starts",
        "load",
        "2,000 starts in ten seconds are all accepted.",
        many_starts,
        fleet.Shape(users=200, guilds=3, pool=100, rate=100),
    ),
    waves.Scenario(
        "all-at-once",
        "load",
        "300 jobs at once all end.",
        all_at_once,
        fleet.Shape(users=300, guilds=3, pool=100, rate=100),
    ),
    waves.Scenario(
        "vanishing-watchers",
        "load",
        "Streams of callers that vanish without FIN are closed.",
        vanishing_watchers,
        fleet.Shape(settings={"INDEXER_MAX_WATCHERS_PER_JOB": str(VANISHING)}),
    ),
    waves.Scenario(
        "erased-in-the-middle",
        "load",
        "Nothing of an erased user remains or returns.",
        erased_in_the_middle,
        ends=("SUCCEEDED", "FAILED"),
    ),
    waves.Scenario("pages-under-change", "load", "Pages are right while jobs run.", pages_under_change),
    waves.Scenario("preferences-storm", "load", "Preferences may change while jobs run.", preferences_storm),
    waves.Scenario("silent-watchers", "load", "Callers that read nothing hold nobody up.", silent_watchers),
]
