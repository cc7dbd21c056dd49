"""The methods of the API: each validates the request, calls a use case, and converts the result."""

import contextlib
import dataclasses
import math
from typing import Any, TypeAlias

import grpc.aio

from indexer_service import caller
from indexer_service.api import (
    convert,
    index_encoder,
    join_cache,
    lookups,
    page_tokens,
    streams,
    validate,
    watch_encoder,
)
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import errors, precedence
from indexing.domain import job_callers, job_updates, model, ports
from indexing.ratelimit import limiter
from indexing.telemetry import logs
from indexing.usecases import (
    browse,
    control_credential,
    control_job,
    erase_user,
    find_channels,
    page_cut,
    search_channels,
    start_job,
    watch_index,
    watch_job,
    whole_user,
)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
ORDERS = frozenset(pb.ChannelOrder.values())
MAX_CHANNEL_TYPE = 65_535
"""Largest channel type that a filter accepts; Discord documents up to 16 (developers/resources/channel)."""


@dataclasses.dataclass(frozen=True, slots=True)
class UseCases:
    """The use cases of the API, with the limiter, the events and the clock that its methods need."""

    start: start_job.StartJob
    watch: watch_job.JobWatcher
    browse: browse.Browse
    watch_index: watch_index.IndexWatcher
    control: control_job.JobControl
    consent: control_credential.CredentialControl
    erase: erase_user.EraseUser
    limits: limiter.Limiter
    events: ports.Events
    clock: ports.Clock


class Servicer(lookups.Lookups, pb_grpc.IndexerServiceServicer):  # type: ignore[misc]  # lookups return bytes
    """Implements IndexerService; the proto file is its documentation."""

    def __init__(
        self, use_cases: UseCases, users: ports.Users, tokens: page_tokens.PageTokens, slots: streams.StreamSlots
    ) -> None:
        self._use_cases = use_cases
        whole = whole_user.WholeUsers(use_cases.browse, use_cases.clock)
        self._find = find_channels.FindChannels(use_cases.browse, whole, use_cases.clock)
        self._search = search_channels.SearchChannels(use_cases.browse, whole, use_cases.clock)
        self._users = users
        self._tokens = tokens
        self._encoder = watch_encoder.WatchEncoder(tokens)
        self._index_encoder = index_encoder.IndexEncoder(tokens)
        self._slots = slots
        self._join_cache = join_cache.JoinCache(use_cases.events, use_cases.clock, self._make_join_response)

    def forget_joins(self, update: job_updates.JobUpdate) -> None:
        """Drop the cached join response of a job that has changed."""
        self._join_cache.forget(update.job.user_id)

    async def write_views(self) -> None:
        """Write what readers viewed since the last time."""
        await self._use_cases.browse.write_views()

    async def StartIndexing(  # type: ignore[override]  # may return bytes, see interceptors.decoding
        self, request: pb.StartIndexingRequest, context: Context
    ) -> pb.StartIndexingResponse | bytes:
        """Start or join a job and return first results."""
        requested = request.wait if request.HasField("wait") else None
        immediate = request.immediate_guilds if request.HasField("immediate_guilds") else 5
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            check(validate.request_id, "request_id", request.request_id)
            wait = check(validate.wait, requested, default=2.0, most=10.0, remaining=context.time_remaining())
            check(validate.number, "immediate_guilds", immediate, least=0, most=25)
        name = self._check_caller()
        with precedence.by_age():
            joined = await self._join_cache.get(user_id)
            if joined is not None:
                await self._note_join(joined, name)
                return joined.body
            started = await self._use_cases.start.start(
                user_id, wait=wait, immediate=immediate, force=request.force, caller=name
            )
        return self._start_response(started)

    async def WatchProgress(  # type: ignore[override]  # writes to the context, to notice slow readers
        self, request: pb.WatchProgressRequest, context: Context
    ) -> None:
        """Stream a job's progress until it ends."""
        with validate.Checks() as check:
            selected = check(_watched, request)
            heartbeat = check(_heartbeat, request)
        job = await self._use_cases.watch.find_job(**selected)
        logs.add(user=str(job.user_id))
        after = self._resume_position(request.resume_token, job)
        with self._slots.slot(job.job_id, caller.current()) as end_reason:
            watch = self._use_cases.watch.watch(job, watch_job.WatchOptions(after, heartbeat, end_reason))
            before = after or ""
            async with contextlib.aclosing(watch):
                async for message, position in watch:
                    bodies = self._encoder.encode(job.job_id, before, position, message)
                    # Rows take far more memory than the stream itself: do not hold them while it is idle.
                    del message
                    for body in bodies:
                        await self._slots.write(context, body)
                    del bodies
                    before = position

    async def WatchIndex(  # type: ignore[override]  # writes to the context, to notice slow readers
        self, request: pb.WatchIndexRequest, context: Context
    ) -> None:
        """Stream what a user may see, and how it changes."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            heartbeat = check(_heartbeat, request)
        token = request.resume_token
        after = self._index_encoder.position(user_id, token) if token else None
        reset_reason = watch_index.TOKEN_TOO_OLD if token and after is None else ""
        with self._slots.slot(f"user:{user_id}", caller.current()) as end_reason:
            options = watch_index.WatchOptions(after, heartbeat, end_reason, reset_reason)
            watch = self._use_cases.watch_index.watch(user_id, options)
            async with contextlib.aclosing(watch):
                async for message, position in watch:
                    body = self._index_encoder.encode(user_id, message, position)
                    del message
                    await self._slots.write(context, body)
                    del body

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """Return a job with its current progress."""
        job = await self._use_cases.watch.find_job(job_id=validate.job_id("job_id", request.job_id))
        return pb.GetJobResponse(job=convert.job(job, await self._use_cases.watch.count_tasks(job)))

    async def WaitJob(self, request: pb.WaitJobRequest, context: Context) -> pb.WaitJobResponse:
        """Return the job when it has ended, or at the end of the wait."""
        requested = request.wait if request.HasField("wait") else None
        with validate.Checks() as check:
            job_id = check(validate.job_id, "job_id", request.job_id)
            wait = check(validate.wait, requested, default=30.0, most=60.0, remaining=context.time_remaining())
        job = await self._use_cases.watch.find_job(job_id=job_id)
        job = await self._use_cases.watch.wait_until_ended(job, wait)
        return pb.WaitJobResponse(job=convert.job(job, await self._use_cases.watch.count_tasks(job)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Return a page of the user's jobs."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            size = check(validate.page_size, request.page_size, default=20, most=100)
        purpose = f"jobs:{user_id}"
        before = math.inf
        if request.page_token:
            before = float(self._tokens.verify("page_token", purpose, request.page_token))
        jobs = await self._use_cases.watch.list_jobs(user_id, before=before, limit=size)
        return pb.ListJobsResponse(
            jobs=[convert.job(job, tally) for job, tally in jobs],
            next_page_token=self._tokens.sign(purpose, jobs[-1][0].created_at) if len(jobs) == size else "",
        )

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """Cancel a job's queued guilds."""
        job = await self._use_cases.control.cancel(_job_of(request), caller=caller.current().name)
        return pb.CancelJobResponse(job=convert.job(job, await self._use_cases.watch.count_tasks(job)))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        """Start a job with the guilds that failed."""
        job, created = await self._use_cases.control.retry(_job_of(request), self._check_caller())
        return pb.RetryJobResponse(
            job=convert.job(job, await self._use_cases.watch.count_tasks(job)),
            disposition=pb.DISPOSITION_CREATED if created else pb.DISPOSITION_JOINED,
        )

    async def GetPreferences(self, request: pb.GetPreferencesRequest, context: Context) -> pb.GetPreferencesResponse:
        """Return the user's preferences."""
        user_id = validate.snowflake("user_id", request.user_id)
        return pb.GetPreferencesResponse(preferences=await self._preferences(user_id))

    async def UpdatePreferences(
        self, request: pb.UpdatePreferencesRequest, context: Context
    ) -> pb.UpdatePreferencesResponse:
        """Change the user's preferences; running jobs apply them from their next turn on."""
        wanted = request.preferences
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            check(validate.request_id, "request_id", request.request_id)
            pinned = check(validate.snowflakes, "preferences.pinned_guild_ids", wanted.pinned_guild_ids, most=200)
            muted = check(validate.snowflakes, "preferences.muted_guild_ids", wanted.muted_guild_ids, most=200)
            paths = check(validate.update_mask, "update_mask", request.update_mask.paths, wanted)
        if fields := [path.removesuffix("_guild_ids") for path in paths]:
            await self._users.put_preferences(user_id, model.Preferences(pinned, muted), fields)
        return pb.UpdatePreferencesResponse(preferences=await self._preferences(user_id))

    async def ListGuilds(  # type: ignore[override]  # returns bytes, see interceptors.decoding
        self, request: pb.ListGuildsRequest, context: Context
    ) -> bytes:
        """Return a page of the user's guilds."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            size = check(validate.page_size, request.page_size, default=50, most=200)
            max_age = check(validate.max_age, lookups.age_of(request))
        purpose = f"guilds:{user_id}"
        after = self._after(request, purpose)
        page = await self._use_cases.browse.list_guilds(user_id, after=after, size=size, max_age=max_age)
        rest = pb.ListGuildsResponse(outdated_guild_ids=map(str, page.outdated))
        if page.following is not None:
            rest.next_page_token = self._tokens.sign(purpose, page.following)
        return lookups.joined(page.rows, rest)

    async def ListChannels(  # type: ignore[override]  # returns bytes, see interceptors.decoding
        self, request: pb.ListChannelsRequest, context: Context
    ) -> bytes:
        """Return a page of channels that the user may see."""
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            wanted = _channel_filter(request, check)
            size = check(validate.page_size, request.page_size, default=100, most=500)
            max_age = check(validate.max_age, lookups.age_of(request))
        purpose = f"channels:{user_id}:{wanted}"
        after = self._after(request, purpose)
        page = await self._use_cases.browse.list_channels(user_id, wanted, after=after, size=size, max_age=max_age)
        rest = pb.ListChannelsResponse(stale_guild_ids=map(str, page.stale), outdated_guild_ids=map(str, page.outdated))
        if page.following is not None:
            rest.next_page_token = self._tokens.sign(purpose, page.following)
        return lookups.joined(page.rows, rest)

    def _after(self, request: Any, purpose: str) -> tuple[Any, ...] | None:  # noqa: ANN401 -- any paged request
        """Return the key after which a page begins; None for the first page."""
        if not request.page_token:
            return None
        key = self._tokens.verify("page_token", purpose, request.page_token)
        if not isinstance(key, list):
            raise errors.InvalidArgument("page_token", "was made by an earlier release; ask for the first page")
        return tuple(key)

    async def PutCredential(self, request: pb.PutCredentialRequest, context: Context) -> pb.PutCredentialResponse:
        """Store a user's tokens."""
        requested = request.expire_time if request.HasField("expire_time") else None
        with validate.Checks() as check:
            user_id = check(validate.snowflake, "user_id", request.user_id)
            check(validate.request_id, "request_id", request.request_id)
            check(validate.max_entries, "scopes", request.scopes, most=50)
            for place, scope in enumerate(request.scopes[:50]):
                check(validate.text, validate.element("scopes", place), scope, least=1, most=100)
            expires_at = check(validate.epoch_seconds, "expire_time", requested) if requested is not None else None
            access_token = check(validate.header, "access_token", request.access_token, least=1, most=2048)
            refresh_token = check(validate.header, "refresh_token", request.refresh_token, least=0, most=2048)
        credential = ports.Credential(
            access_token=access_token,
            refresh_token=refresh_token,
            expires_at=expires_at,
            scopes=tuple(request.scopes),
            brought_by=self._check_caller(),
        )
        return pb.PutCredentialResponse(verified=await self._use_cases.consent.put(user_id, credential))

    async def GetCredentialStatus(
        self, request: pb.GetCredentialStatusRequest, context: Context
    ) -> pb.GetCredentialStatusResponse:
        """Return the status of a user's credential."""
        return convert.credential(
            await self._use_cases.consent.get_status(validate.snowflake("user_id", request.user_id))
        )

    async def RevokeCredential(
        self, request: pb.RevokeCredentialRequest, context: Context
    ) -> pb.RevokeCredentialResponse:
        """Delete a user's tokens and end their running job."""
        user_id = _user_of(request)
        revoked = await self._use_cases.consent.revoke(user_id, caller.current().name)
        self._join_cache.forget(user_id)
        return pb.RevokeCredentialResponse(revoked_at_discord=revoked)

    async def DeleteUserData(self, request: pb.DeleteUserDataRequest, context: Context) -> pb.DeleteUserDataResponse:
        """Erase a user's data."""
        user_id = _user_of(request)
        removed = await self._use_cases.erase.erase(user_id)
        self._join_cache.forget(user_id)
        return pb.DeleteUserDataResponse(removed=removed)

    async def GetRateLimits(self, request: pb.GetRateLimitsRequest, context: Context) -> pb.GetRateLimitsResponse:
        """Return the state of the rate-limit budgets."""
        users = validate.snowflakes("user_ids", request.user_ids, most=50)
        states = await self._use_cases.limits.snapshot(users)
        now = self._use_cases.clock()
        return pb.GetRateLimitsResponse(budgets=[convert.budget(state, now) for state in states])

    async def _preferences(self, user_id: int) -> pb.Preferences:
        user = await self._users.load(user_id)
        return convert.preferences(user.preferences if user else model.Preferences())

    def _check_caller(self) -> str:
        """Return the caller's name. Raises errors.CallerStopped."""
        name = caller.current().name
        if name:
            self._use_cases.limits.check_caller(name)
        return name

    def _start_response(self, started: start_job.StartResult) -> pb.StartIndexingResponse:
        return pb.StartIndexingResponse(
            job=convert.job(started.job, job_updates.tally_of(started.tasks)),
            disposition=f"DISPOSITION_{started.disposition}",
            reason=f"START_REASON_{started.reason}",
            guilds=[convert.job_guild(task) for task in started.tasks],
            remaining=sum(not task.state.terminal for task in started.tasks),
            watch_token=self._encoder.resume_token(started.job.job_id, started.position),
        )

    async def _make_join_response(self, user_id: int) -> join_cache.JoinResponse | None:
        found = await self._use_cases.start.join(user_id)
        if found is None:
            return None
        body = self._start_response(found).SerializeToString()
        return join_cache.JoinResponse(found.job.job_id, found.position, body, {*found.job.callers})

    async def _note_join(self, joined: join_cache.JoinResponse, name: str) -> None:
        """Store a caller that joins a job for the first time; one round trip, none for a caller that is stored."""
        if name and name not in joined.callers and len(joined.callers) < job_callers.MOST_CALLERS:
            await self._use_cases.start.note_caller(joined.job_id, name)
            joined.callers.add(name)

    def _resume_position(self, token: str, job: model.Job) -> str | None:
        if not token:
            return None
        job_id, position = self._tokens.verify("resume_token", watch_encoder.PURPOSE, token)
        if job_id != job.job_id:
            raise errors.InvalidArgument("resume_token", "belongs to another job; omit it to get a snapshot")
        return str(position) or None


def _user_of(request: pb.RevokeCredentialRequest | pb.DeleteUserDataRequest) -> int:
    """Return the user of a request that has nothing else but a request id."""
    with validate.Checks() as check:
        user_id = check(validate.snowflake, "user_id", request.user_id)
        check(validate.request_id, "request_id", request.request_id)
    return user_id


def _job_of(request: pb.CancelJobRequest | pb.RetryJobRequest) -> str:
    """Return the job of a request that has nothing else but a request id."""
    with validate.Checks() as check:
        job_id = check(validate.job_id, "job_id", request.job_id)
        check(validate.request_id, "request_id", request.request_id)
    return job_id


def _watched(request: pb.WatchProgressRequest) -> dict[str, Any]:
    """Return the job, or the user whose job is watched, as keyword of `find_job`."""
    if bool(request.job_id) == bool(request.user_id):
        raise errors.InvalidArgument("job_id", "set exactly one of job_id and user_id")
    if request.job_id:
        return {"job_id": validate.job_id("job_id", request.job_id)}
    return {"user_id": validate.snowflake("user_id", request.user_id)}


def _heartbeat(request: pb.WatchProgressRequest | pb.WatchIndexRequest) -> float:
    """Return the seconds between two heartbeats of a stream."""
    requested = request.heartbeat if request.HasField("heartbeat") else None
    return validate.seconds("heartbeat", requested, default=15.0, bounds=(5.0, 60.0))


def _channel_filter(request: pb.ListChannelsRequest, check: validate.Checks) -> page_cut.ChannelFilter:
    if request.types:
        check(validate.max_entries, "types", request.types, most=20)
        for place, kind in enumerate(request.types[:20]):
            check(validate.number, validate.element("types", place), kind, least=0, most=MAX_CHANNEL_TYPE)
    check(validate.known_value, "order", request.order, ORDERS)
    return page_cut.ChannelFilter(
        guild_id=check(validate.snowflake, "guild_id", request.guild_id) if request.guild_id else 0,
        name_prefix=check(validate.text, "name_prefix", request.name_prefix, most=100),
        kinds=tuple(sorted(set(request.types))),
        by_activity=request.order == pb.CHANNEL_ORDER_ACTIVITY,
    )
