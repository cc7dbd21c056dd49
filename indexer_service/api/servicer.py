"""The API's methods: validate, call a use case, convert."""

import contextlib
import dataclasses
import math
from typing import Any, TypeAlias

import grpc.aio

from indexer_service.api import convert, join_cache, page_tokens, streams, validate, watch_encoder
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import errors
from indexing.domain import model, ports
from indexing.ratelimit import limiter
from indexing.usecases import browse, control_job, erase_user, start_job, tokens, watch_job

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


MOST_TYPE = 65_535
"""Largest of Discord's type numbers that can be asked for; the largest known is 16 (developers/resources/channel)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cases:
    """The use cases that the service offers."""

    start: start_job.StartJob
    progress: watch_job.JobWatcher
    browse: browse.Browse
    control: control_job.JobControl
    consent: tokens.ConsentControl
    erasure: erase_user.EraseUser
    limits: limiter.Limiter
    events: ports.Events
    clock: ports.Clock


class Servicer(pb_grpc.IndexerServiceServicer):
    """IndexerService, as its proto file says."""

    def __init__(self, cases: Cases, users: ports.Users, signer: page_tokens.Tokens, watchers: streams.Streams) -> None:
        self._cases = cases
        self._users = users
        self._tokens = signer
        self._wire = watch_encoder.Wire(signer)
        self._streams = watchers
        self._joins = join_cache.Joins(cases.events, cases.clock, self._joined)

    def changed(self, update: model.JobUpdate) -> None:
        """Take note that a job has changed: what was known of it is not told any more."""
        self._joins.forget(update.job.user_id)

    async def write_views(self) -> None:
        """Write what readers viewed since the last time."""
        await self._cases.browse.write_views()

    async def StartIndexing(  # type: ignore[override]  # an answer may come as bytes, see interceptors
        self, request: pb.StartIndexingRequest, context: Context
    ) -> pb.StartIndexingResponse | bytes:
        """Start or join a job and answer with first results."""
        user_id = validate.snowflake("user_id", request.user_id)
        asked = request.wait if request.HasField("wait") else None
        wait = validate.wait(asked, default=2.0, most=10.0, remaining=context.time_remaining())
        immediate = request.immediate_guilds if request.HasField("immediate_guilds") else 5
        validate.number("immediate_guilds", immediate, least=0, most=25)
        joined = await self._joins.get(user_id)
        if joined is not None:
            return joined
        started = await self._cases.start.start(user_id, wait=wait, immediate=immediate, force=request.force)
        return self._started(started)

    async def WatchProgress(  # type: ignore[override]  # writes to the context, to know when a reader is stuck
        self, request: pb.WatchProgressRequest, context: Context
    ) -> None:
        """Stream a job's progress until it ends."""
        heartbeat = validate.seconds(
            "heartbeat", request.heartbeat if request.HasField("heartbeat") else None, default=15.0, bounds=(5.0, 60.0)
        )
        job = await self._watched(request)
        after = self._resumed(request.resume_token, job)
        with self._streams.place(job.job_id) as leave:
            watch = self._cases.progress.watch(job, watch_job.WatchOptions(after, heartbeat, leave))
            before = after or ""
            async with contextlib.aclosing(watch):
                async for message, position in watch:
                    bodies = self._wire.bodies(job.job_id, before, position, message)
                    # Rows weigh far more than the stream itself: they must not be held while it is silent.
                    del message
                    for body in bodies:
                        await self._streams.write(context, body)
                    del bodies
                    before = position

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """Return a job with its numbers as they are now."""
        job = await self._cases.progress.find_job(job_id=validate.job_id("job_id", request.job_id))
        return pb.GetJobResponse(job=convert.job(job, await self._cases.progress.count_tasks(job)))

    async def WaitJob(self, request: pb.WaitJobRequest, context: Context) -> pb.WaitJobResponse:
        """Return the job when it has ended or the wait is over."""
        job = await self._cases.progress.find_job(job_id=validate.job_id("job_id", request.job_id))
        asked = request.wait if request.HasField("wait") else None
        wait = validate.wait(asked, default=30.0, most=60.0, remaining=context.time_remaining())
        job = await self._cases.progress.wait_until_ended(job, wait)
        return pb.WaitJobResponse(job=convert.job(job, await self._cases.progress.count_tasks(job)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Return a page of the user's jobs."""
        user_id = validate.snowflake("user_id", request.user_id)
        size = validate.page_size(request.page_size, default=20, most=100)
        purpose = f"jobs:{user_id}"
        before = math.inf
        if request.page_token:
            before = float(self._tokens.read("page_token", purpose, request.page_token))
        jobs = await self._cases.progress.list_jobs(user_id, before=before, limit=size)
        return pb.ListJobsResponse(
            jobs=[convert.job(job, tally) for job, tally in jobs],
            next_page_token=self._tokens.make(purpose, jobs[-1][0].created_at) if len(jobs) == size else "",
        )

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """Drop what is still queued."""
        job = await self._cases.control.cancel(validate.job_id("job_id", request.job_id))
        return pb.CancelJobResponse(job=convert.job(job, await self._cases.progress.count_tasks(job)))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        """Start a job with what failed."""
        job, created = await self._cases.control.retry(validate.job_id("job_id", request.job_id))
        return pb.RetryJobResponse(
            job=convert.job(job, await self._cases.progress.count_tasks(job)),
            disposition=pb.DISPOSITION_CREATED if created else pb.DISPOSITION_JOINED,
        )

    async def GetPreferences(self, request: pb.GetPreferencesRequest, context: Context) -> pb.GetPreferencesResponse:
        """Return the user's wishes."""
        user = await self._users.load(validate.snowflake("user_id", request.user_id))
        preferences = user.preferences if user else model.Preferences()
        return pb.GetPreferencesResponse(preferences=convert.preferences(preferences))

    async def UpdatePreferences(
        self, request: pb.UpdatePreferencesRequest, context: Context
    ) -> pb.UpdatePreferencesResponse:
        """Replace the user's wishes; jobs that run follow them from their next turn on."""
        user_id = validate.snowflake("user_id", request.user_id)
        wishes = model.Preferences(
            pinned=validate.snowflakes("preferences.pinned_guild_ids", request.preferences.pinned_guild_ids, most=200),
            muted=validate.snowflakes("preferences.muted_guild_ids", request.preferences.muted_guild_ids, most=200),
        )
        await self._users.put_preferences(user_id, wishes)
        return pb.UpdatePreferencesResponse(preferences=convert.preferences(wishes))

    async def ListGuilds(self, request: pb.ListGuildsRequest, context: Context) -> pb.ListGuildsResponse:
        """Return a page of the user's guilds."""
        user_id = validate.snowflake("user_id", request.user_id)
        size = validate.page_size(request.page_size, default=50, most=200)
        purpose = f"guilds:{user_id}"
        page = await self._cases.browse.list_guilds(user_id, after=self._after(request, purpose), size=size)
        response = pb.ListGuildsResponse.FromString(b"".join(page.rows))
        if page.following is not None:
            response.next_page_token = self._tokens.make(purpose, page.following)
        return response

    async def ListChannels(self, request: pb.ListChannelsRequest, context: Context) -> pb.ListChannelsResponse:
        """Return a page of channels that the user may see."""
        user_id = validate.snowflake("user_id", request.user_id)
        wanted = _filter(request)
        size = validate.page_size(request.page_size, default=100, most=500)
        purpose = f"channels:{user_id}:{wanted}"
        after = self._after(request, purpose)
        page = await self._cases.browse.list_channels(user_id, wanted, after=after, size=size)
        response = pb.ListChannelsResponse.FromString(b"".join(page.rows))
        response.stale_guild_ids.extend(map(str, page.stale))
        if page.following is not None:
            response.next_page_token = self._tokens.make(purpose, page.following)
        return response

    def _after(self, request: Any, purpose: str) -> tuple[Any, ...] | None:  # noqa: ANN401 -- any paged request
        if not request.page_token:
            return None
        return tuple(self._tokens.read("page_token", purpose, request.page_token))

    async def PutCredential(self, request: pb.PutCredentialRequest, context: Context) -> pb.PutCredentialResponse:
        """Store a user's tokens."""
        user_id = validate.snowflake("user_id", request.user_id)
        validate.few("scopes", request.scopes, most=50)
        for scope in request.scopes:
            validate.text("scopes", scope, least=1, most=100)
        expires_at = validate.moment("expires_at", request.expires_at) if request.HasField("expires_at") else None
        credential = ports.Credential(
            access_token=validate.header("access_token", request.access_token, least=1, most=2048),
            refresh_token=validate.header("refresh_token", request.refresh_token, least=0, most=2048),
            expires_at=expires_at,
            scopes=tuple(request.scopes),
        )
        await self._users.put_credential(user_id, credential)
        return pb.PutCredentialResponse()

    async def GetCredentialStatus(
        self, request: pb.GetCredentialStatusRequest, context: Context
    ) -> pb.GetCredentialStatusResponse:
        """Tell how a user's credential stands."""
        return convert.credential(await self._cases.consent.status(validate.snowflake("user_id", request.user_id)))

    async def RevokeCredential(
        self, request: pb.RevokeCredentialRequest, context: Context
    ) -> pb.RevokeCredentialResponse:
        """Forget a user's tokens and end his work."""
        user_id = validate.snowflake("user_id", request.user_id)
        revoked = await self._cases.consent.revoke(user_id)
        self._joins.forget(user_id)
        return pb.RevokeCredentialResponse(revoked_at_discord=revoked)

    async def DeleteUserData(self, request: pb.DeleteUserDataRequest, context: Context) -> pb.DeleteUserDataResponse:
        """Erase a user."""
        user_id = validate.snowflake("user_id", request.user_id)
        removed = await self._cases.erasure.erase(user_id)
        self._joins.forget(user_id)
        return pb.DeleteUserDataResponse(removed=removed)

    async def GetRateLimits(self, request: pb.GetRateLimitsRequest, context: Context) -> pb.GetRateLimitsResponse:
        """Return how the budgets stand."""
        users = validate.snowflakes("user_ids", request.user_ids, most=50)
        states = await self._cases.limits.snapshot(users)
        now = self._cases.clock()
        return pb.GetRateLimitsResponse(budgets=[convert.budget(state, now) for state in states])

    def _started(self, started: start_job.StartResult) -> pb.StartIndexingResponse:
        return pb.StartIndexingResponse(
            job=convert.job(started.job, model.tally_of(started.tasks)),
            disposition=f"DISPOSITION_{started.disposition}",
            reason=started.reason,
            guilds=[convert.job_guild(row) for row in started.tasks],
            remaining=sum(not row.state.terminal for row in started.tasks),
            watch_token=self._wire.token(started.job.job_id, started.position),
        )

    async def _joined(self, user_id: int) -> join_cache.Answer | None:
        found = await self._cases.start.join(user_id)
        if found is None:
            return None
        return join_cache.Answer(found.job.job_id, found.position, self._started(found).SerializeToString())

    async def _watched(self, request: pb.WatchProgressRequest) -> model.Job:
        if bool(request.job_id) == bool(request.user_id):
            raise errors.InvalidArgument("job_id", "exactly one of job_id and user_id must be given")
        if request.job_id:
            return await self._cases.progress.find_job(job_id=validate.job_id("job_id", request.job_id))
        return await self._cases.progress.find_job(user_id=validate.snowflake("user_id", request.user_id))

    def _resumed(self, token: str, job: model.Job) -> str | None:
        if not token:
            return None
        job_id, position = self._tokens.read("resume_token", watch_encoder.WATCH, token)
        if job_id != job.job_id:
            raise errors.InvalidArgument("resume_token", "belongs to another job")
        return str(position) or None


def _filter(request: pb.ListChannelsRequest) -> browse.ChannelFilter:
    validate.few("types", request.types, most=20)
    for kind in request.types:
        validate.number("types", kind, least=0, most=MOST_TYPE)
    if request.order not in pb.ChannelOrder.values():
        raise errors.InvalidArgument("order", "is not one of the orders")
    return browse.ChannelFilter(
        guild_id=validate.snowflake("guild_id", request.guild_id) if request.guild_id else 0,
        name_prefix=validate.text("name_prefix", request.name_prefix, most=100),
        kinds=tuple(sorted(set(request.types))),
        by_activity=request.order == pb.CHANNEL_ORDER_ACTIVITY,
    )
