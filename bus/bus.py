"""The bus as a whole, and the way to open it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, Unpack, overload

from tailrace.bus.activity import Activity
from tailrace.bus.activity.undelivered import Undelivered
from tailrace.bus.control import Control
from tailrace.bus.deployment import Deployment, deployment_of
from tailrace.bus.embedded import EmbeddedServer, embedded_path, start_embedded
from tailrace.bus.errors import BusClosedError, BusUnavailableError, InvalidInputError, ReplyError, TenantMismatchError
from tailrace.bus.handle import Handle
from tailrace.bus.healing.healer import Healer
from tailrace.bus.jobs.dead_letters import DeadLetters
from tailrace.bus.jobs.jobs import Jobs
from tailrace.bus.log.deletion import delete
from tailrace.bus.log.follow import follow
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Log
from tailrace.bus.log.publisher import Publisher, PublisherOptions
from tailrace.bus.model.codec import encode, ts_of
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, TAIL, Cursor, parse
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import Event, check_execution_id, check_name, new_execution_id
from tailrace.bus.model.fence import Fence
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.labels import Labels, check_labels, labels_text
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.retry import Backoff
from tailrace.bus.model.state import State
from tailrace.bus.model.submission import (
    Submission,
    check_delay_seconds,
    check_key,
    check_limit_seconds,
    check_max_attempts,
    check_tenant,
    id_of_key,
)
from tailrace.bus.model.trace import traceparent_of
from tailrace.bus.ops.eviction import eviction_risk
from tailrace.bus.ownership.checkpoints import Checkpoints
from tailrace.bus.ownership.execution import Execution
from tailrace.bus.ownership.gate import TakeOverGate
from tailrace.bus.ownership.heartbeat import Heartbeat, HeartbeatParts
from tailrace.bus.ownership.lease import Leases
from tailrace.bus.ownership.ownership import OnUncertain
from tailrace.bus.ownership.session import Session, Sessions
from tailrace.bus.ownership.tenancy import claim
from tailrace.bus.queries.counts import LiveCounts, LiveExecutions, count_labelled
from tailrace.bus.queries.listing import (
    MAX_LIMIT,
    ListQuery,
    list_executions,
    parse_place,
    parse_time,
    place_text,
)
from tailrace.bus.redis.address import parse_url, redacted
from tailrace.bus.redis.commands import Commands, server_ms
from tailrace.bus.redis.loading import LoadingNotice
from tailrace.bus.redis.replicated import ReplicatedCommands
from tailrace.bus.settings import BusSettings
from tailrace.bus.tail.watch import Tail

logger = logging.getLogger(__name__)

_LOADING_POLL_SECONDS: Final = 0.25


class ExecutionPage(NamedTuple):
    """``next`` is the ``cursor`` of the page that follows; None where there is none."""

    items: Sequence[State]
    next: str | None


class Bus:
    """Everything a process needs to publish to, read and run executions. Made by ``open_bus``."""

    def __init__(
        self,
        settings: BusSettings,
        commands: Commands,
        *,
        counters: Counters,
        deployment: Deployment,
        server: EmbeddedServer | None = None,
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.commands = commands
        self.keys = Keys(settings.prefix)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._replicated = (
            ReplicatedCommands(partial(deployment.open_line, "replicated"), settings.replicas, counters)
            if settings.replicas
            else None
        )
        self.log = Log(
            commands,
            self.keys,
            counters=counters,
            retention=settings.retention,
            max_event_bytes=settings.max_event_bytes,
            replicated=self._replicated,
        )
        self.index = ExecutionIndex(commands, self.keys)
        self.activity = Activity(commands, self.keys, counters=counters, tail=self.tail, on_ended=self.index.drop)
        self.log.on_lifecycle = self.activity.appended
        self.gate = TakeOverGate(commands, self.index, counters, lease_seconds=settings.lease_seconds)
        self.leases = self._leases_over(commands)
        self.checkpoints = Checkpoints(commands, self.keys, settings.retention)
        self.jobs = Jobs(
            commands,
            self.log,
            self.keys,
            settings.retention,
            self.index,
            max_queue_jobs=settings.max_queue_jobs,
        )
        self.dead_letters = DeadLetters(commands, self.keys, self.jobs, max_event_bytes=settings.max_event_bytes)
        self.heartbeat = Heartbeat(self._heartbeat_parts, self.index, counters, lease_seconds=settings.lease_seconds)
        self.healer = Healer(
            name=self.name,
            commands=commands,
            keys=self.keys,
            log=self.log,
            leases=self.leases,
            index=self.index,
            counters=counters,
            activity=self.activity,
            gate=self.gate,
            sessions=Sessions(commands, deployment.beside(commands, self.keys.sessions()), self.keys, counters),
            jobs=self.jobs,
            dead_letters=self.dead_letters,
        )
        self.control = Control(self.log, self.index, self.follow)
        self._deployment = deployment
        self._owners = itertools.count(1)
        self._server = server
        self._tail: Tail | None = None
        self._tail_lock = asyncio.Lock()
        self._closed = False

    async def open_line(self, name: str, *, wait_seconds: float = 5.0) -> Commands:
        """Connect once more, for commands that block; the caller closes it. Raises BusUnavailableError."""
        return await self._deployment.open_line(name, wait_seconds=wait_seconds)

    async def tail(self) -> Tail:
        """The one Tail of this process, started on first use. Raises BusUnavailableError, BusClosedError."""
        async with self._tail_lock:
            if self._closed:
                # A connection opened now would never be closed.
                raise BusClosedError("the bus is closed")
            if self._tail is None:
                self._tail = await self._deployment.open_tail(self.commands, self.settings.tail)
            return self._tail

    def publisher(
        self,
        execution_id: str,
        *,
        producer: str | None = None,
        fence: int | None = None,
        **options: Unpack[PublisherOptions],
    ) -> Publisher:
        """Append to an execution without owning it: no lease, no ending. ``options`` are those of PublisherOptions.

        ``producer`` names who appends; without it, a new name is made. Raises InvalidExecutionIdError.
        """
        check_execution_id(execution_id)
        return Publisher(self.log, execution_id, producer=producer or uuid.uuid4().hex[:16], fence=fence, **options)

    def execution(
        self,
        execution_id: str | None = None,
        *,
        pipeline: str | None = None,
        max_attempts: int | None = None,
        timeout_seconds: float | None = None,
        tenant: str | None = None,
        labels: Labels | None = None,
        on_uncertain: OnUncertain | None = None,
        **options: Unpack[PublisherOptions],
    ) -> Execution:
        """Run an execution in this program: ``async with bus.execution(id) as execution: …``.

        ``max_attempts`` is noted for the healer, should this program die. After
        ``timeout_seconds`` of running, pauses not counted, it ends in ``execution.timed_out``, and leaving raises
        TimeoutError; every attempt has as long. ``tenant`` is whose it is from its first moment on, and ``labels`` are
        its own where it has none yet, as in ``submit``.
        When its lease cannot be renewed, the body is cancelled before another may take over, and leaving raises
        LeaseLostError; with ``on_uncertain="continue"`` it goes on, and two may act at once.

        Raises on entering TenantMismatchError when the id is taken and not the tenant's, LeaseHeldError when it has
        another owner, ExecutionClosedError when it has ended or was to be cancelled, which then is its ending.
        """
        chosen = self.new_execution_id() if execution_id is None else check_execution_id(execution_id)
        check_tenant(tenant)
        text = labels_text(check_labels(labels or {}))
        # An owner of its own: a second task of this process is another owner.
        owner = f"{self.name}.{next(self._owners)}"
        return Execution(
            self.commands,
            self.log,
            self.leases,
            self.heartbeat,
            self.checkpoints,
            self.tail,
            chosen,
            owner=owner,
            pipeline=pipeline,
            max_attempts=max_attempts,
            timeout_seconds=timeout_seconds,
            on_uncertain=on_uncertain or self.settings.on_uncertain,
            claim=partial(self._claim, chosen, tenant, text) if tenant is not None or text else None,
            publisher=options,
        )

    def _leases_over(self, commands: Commands) -> Leases:
        return Leases(
            commands,
            self.keys,
            self.settings.retention,
            lease_seconds=self.settings.lease_seconds,
            gate=self.gate,
            session=self.name,
        )

    async def _heartbeat_parts(self) -> HeartbeatParts:
        """Connections of its own for the heartbeat's thread, where this is called."""
        session = Session(
            self.name, self.keys, self.counters, keep_seconds=max(60, int(2 * self.settings.lease_seconds))
        )
        # Reconnects quickly: an owner that comes back too late has lost everything.
        backoff = Backoff(most_seconds=min(Backoff().most_seconds, self.settings.lease_seconds / 12))
        # Waits for no connection: a lease counts from the moment when its renewal was sent.
        commands = await self._deployment.open_line(
            "session",
            wait_seconds=backoff.most_seconds,
            home=(self.keys.sessions(), session.connected),
            backoff=backoff,
        )
        log = Log(
            commands,
            self.keys,
            counters=self.counters,
            retention=self.settings.retention,
            max_event_bytes=self.settings.max_event_bytes,
        )

        async def tell_health(execution_id: str, fence: Fence, data: dict[str, object]) -> None:
            event = encode(Event("health", data), ts=ts_of(time.time_ns() // 1_000_000))
            await log.append(execution_id, [event], fence=fence)

        return HeartbeatParts(
            commands, self._leases_over(commands), ExecutionIndex(commands, self.keys), session, tell_health
        )

    async def _claim(self, execution_id: str, tenant: str | None, labels: str) -> None:
        live_seconds = self.settings.retention.live_seconds
        whose = await claim(self.commands, self.keys, execution_id, tenant, live_seconds=live_seconds, labels=labels)
        if tenant is not None and whose != tenant:
            raise TenantMismatchError(execution_id, tenant)
        state = await self.log.state(execution_id)
        created_ms = None if state is None else state.created_ms
        own = {} if state is None else state.labels
        await self.index.note(execution_id, whose, created_ms or await server_ms(self.commands), own)

    async def submit(
        self,
        pipeline: str,
        given: dict[str, Any] | None = None,
        *,
        execution_id: str | None = None,
        idempotency_key: str | None = None,
        queue: str = "default",
        tenant: str | None = None,
        concurrency_key: str | None = None,
        max_attempts: int | None = None,
        delay_seconds: float = 0.0,
        timeout_seconds: float | None = None,
        start_within_seconds: float | None = None,
        labels: Labels | None = None,
        trace: str | None = None,
    ) -> Handle:
        """Queue work for a worker, to be begun after ``delay_seconds``, and return a handle, which is the id as well.

        Submitting the same under the same id, or under the same idempotency key of a tenant, again changes nothing. Of
        a tenant's executions with the same ``concurrency_key``, one is in flight at a time. ``max_attempts`` can only
        lower what the pipeline allows.

        ``timeout_seconds`` counts from now, the queue, pauses and further attempts included; then it ends in
        ``execution.timed_out``, whoever runs it. So it does, with the reason ``not_started``, when no worker has begun
        it ``start_within_seconds`` after its delay. ``labels``, up to 8 of up to 128 characters, say whose it is in
        words of the application: they stand in the state, and lists are asked for by them. ``trace`` is a W3C
        ``traceparent``, which all its events then carry.

        Raises ExecutionExistsError when something else has that id or idempotency key, ConcurrencyConflictError,
        QueueFullError, InvalidInputError, and InvalidEventError for an input that is no JSON or too large.
        """
        check_name(pipeline, field="pipeline")
        check_name(queue, field="queue")
        if idempotency_key is not None:
            if execution_id is not None:
                raise InvalidInputError("idempotency_key", "cannot be given together with execution_id")
            chosen = id_of_key(tenant, check_key(idempotency_key, field="idempotency_key"))
        else:
            chosen = self.new_execution_id() if execution_id is None else check_execution_id(execution_id)
        submission = Submission(
            chosen,
            pipeline,
            given or {},
            queue,
            check_tenant(tenant),
            None if concurrency_key is None else check_key(concurrency_key, field="concurrency_key"),
            check_max_attempts(max_attempts),
            check_delay_seconds(delay_seconds),
            trace=traceparent_of(trace),
            labels=check_labels(labels or {}),
            timeout_seconds=check_limit_seconds(timeout_seconds, field="timeout_seconds"),
            start_within_seconds=check_limit_seconds(start_within_seconds, field="start_within_seconds"),
        )
        if timeout_seconds is not None and timeout_seconds <= delay_seconds:
            raise InvalidInputError("timeout_seconds", f"is over before the delay of {delay_seconds:g} s")
        await self.jobs.submit(submission, ts=ts_of(time.time_ns() // 1_000_000))
        return self.handle(chosen)

    def handle(self, execution_id: str) -> Handle:
        """For an execution that is there, or may come to be. Raises InvalidExecutionIdError."""
        return Handle.of(check_execution_id(execution_id), self.control, self.log, self.follow)

    @overload
    def follow(
        self, execution_id: str, after: Cursor | str = START, *, wait: float | None = None
    ) -> AsyncGenerator[Entry | Gap, None]: ...

    @overload
    def follow(
        self, execution_id: str, after: Cursor | str = START, *, heartbeat_seconds: float, wait: float | None = None
    ) -> AsyncGenerator[Entry | Gap | None, None]: ...

    async def follow(
        self,
        execution_id: str,
        after: Cursor | str = START,
        *,
        heartbeat_seconds: float | None = None,
        wait: float | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Give an execution's log after a cursor, then what comes, until the terminal event; gaps are items.

        ``after="tail"`` is what comes from now on. With ``heartbeat_seconds``, None is given after so many seconds
        without an item. An execution that does not exist, or whose retention has passed, is waited for without end;
        with ``wait``, for so many seconds, and then ExecutionUnknownError is raised.

        Raises InvalidCursorError, InvalidExecutionIdError, InvalidInputError; BusUnavailableError while replaying, when
        Redis cannot be reached: once live, it waits for its return. Close it with ``aclosing`` when leaving early.
        """
        check_execution_id(execution_id)
        if heartbeat_seconds is not None and not heartbeat_seconds > 0:
            raise InvalidInputError("heartbeat_seconds", f"is {heartbeat_seconds!r}; it must be more than 0")
        if wait is not None and not wait >= 0:
            raise InvalidInputError("wait", f"is {wait!r}; it must be at least 0")
        if after == TAIL:
            cursor = await self.log.latest(execution_id)
        else:
            cursor = parse(after) if isinstance(after, str) else after
        reading = follow(
            self.log, await self.tail(), execution_id, cursor, heartbeat_seconds=heartbeat_seconds, wait=wait
        )
        # Closed with us, not when it is collected: no watch outlives its reader.
        async with aclosing(reading) as items:
            async for item in items:
                yield item

    async def state(self, execution_id: str) -> State | None:
        """How an execution stands; None if it has no state. Raises InvalidExecutionIdError, BusUnavailableError."""
        return await self.log.state(check_execution_id(execution_id))

    async def list(
        self,
        *,
        status: Sequence[Status] = (),
        pipeline: str | None = None,
        tenant: str | None = None,
        labels: Labels | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> ExecutionPage:
        """Give executions, the newest first, as ``GET /v1/executions`` does, whose parameters these are.

        Times are RFC 3339. With ``labels``, only those that have all of them are read: the cost is that of the
        executions with the first label. ``limit`` is 1 to 500; a page may have fewer items, and still a ``next``.
        Raises InvalidInputError, BusUnavailableError.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInputError("limit", f"is {limit}; it must be from 1 to {MAX_LIMIT}")
        query = ListQuery(
            statuses=tuple(status),
            pipeline=None if pipeline is None else check_name(pipeline, field="pipeline"),
            tenant=check_tenant(tenant),
            after_ms=None if created_after is None else parse_time(created_after, field="created_after"),
            before_ms=None if created_before is None else parse_time(created_before, field="created_before"),
            cursor=None if cursor is None else parse_place(cursor),
            limit=limit,
            labels=tuple(check_labels(labels or {}).items()),
        )
        page = await list_executions(self.log, self.index, query)
        return ExecutionPage(page.states, None if page.next is None else place_text(page.next))

    async def count(self, *, tenant: str | None = None, labels: Labels | None = None) -> LiveExecutions:
        """Count executions that have not ended, by status and by pipeline, as ``GET /v1/stats`` does.

        A thousand are looked at; where there are more, ``complete`` is False. Raises InvalidInputError,
        BusUnavailableError.
        """
        chosen = tuple(check_labels(labels or {}).items())
        if chosen:
            return await count_labelled(self.log, self.index, chosen, check_tenant(tenant))
        live = await LiveCounts(self.log).latest()
        return live if tenant is None else live.where(lambda state: state.tenant == tenant)

    def undelivered(self, group: str) -> Undelivered:
        """Events at which a handler of a group has failed for good: ``list``, ``requeue`` and ``drop`` them.

        Raises InvalidInputError for what is no group's name.
        """
        return Undelivered(self.commands, self.keys, group)

    async def delete(self, execution_id: str) -> None:
        """Forget an execution that has ended: events, state, checkpoints, its place in the lists and in groups.

        Viewers who ask for it afterwards are told that there is no such execution. Raises ExecutionUnknownError,
        ExecutionNotEndedError, InvalidExecutionIdError, BusUnavailableError.
        """
        await delete(self.commands, self.keys, self.index, self.settings.retention, check_execution_id(execution_id))

    async def available(self) -> None:
        """Wait until Redis answers, however long that takes. Raises BusClosedError."""
        backoff, attempt = Backoff(), 0
        while True:
            try:
                await self.commands.command("PING")
            except BusUnavailableError as error:
                attempt += 1
                logger.debug("waiting for Redis: %s", error)
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))
            else:
                return

    def new_execution_id(self) -> str:
        """Make an id that nobody else has, in the order of time."""
        return new_execution_id(time.time_ns() // 1_000_000, os.urandom)

    async def aclose(self) -> None:
        """Write what was noted of the activity, for at most 2 s, and close all connections. Idempotent."""
        await self.activity.aclose()
        self._closed = True
        await self.heartbeat.aclose()
        # The commands first: readers whom the tail disturbs then learn that the bus is closed.
        await self.commands.aclose()
        if self._replicated is not None:
            await self._replicated.aclose()
        async with self._tail_lock:
            if self._tail is not None:
                await self._tail.aclose()
        await self._deployment.aclose()
        if self._server is not None:
            await self._server.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def open_bus(url: str | None = None, *, settings: BusSettings | None = None) -> Bus:
    """Open the bus at a URL.

    ``redis://``, ``rediss://``, ``unix://`` or ``embedded://[path]``; ``redis+sentinel://host:port,…/service`` or
    ``redis+cluster://host:port,…`` for more than one server.

    ``embedded://`` starts a real Valkey for this process; with a path it is persistent and shared by all processes
    that name the same path. Without a URL, ``TAILRACE_REDIS_URL`` says where.

    Waits for a Redis that is loading its data, however long that takes, and logs it.

    Raises InvalidInputError for a URL that cannot be used, BusUnavailableError when no server answers there, ReplyError
    when Redis refuses, say the password.
    """
    settings = settings or BusSettings()
    target = parse_url(url or settings.redis_url.get_secret_value())
    server: EmbeddedServer | None = None
    if target.scheme == "embedded":
        server = await start_embedded(embedded_path(target.url))
        target = parse_url(server.url)
    counters = Counters()
    deployment = deployment_of(target, counters)
    try:
        commands = await _open_when_loaded(deployment, redacted(target.url))
    except BaseException:
        if server is not None:
            await server.close()
        raise
    await _warn_of_eviction(commands, counters)
    deployment.start()
    return Bus(settings, commands, counters=counters, deployment=deployment, server=server)


async def _open_when_loaded(deployment: Deployment, where: str) -> Commands:
    loading = LoadingNotice(where)
    while True:
        try:
            return await deployment.open_line("redis")
        except ReplyError as error:
            if error.code != "LOADING":
                raise ReplyError(f"{error} (Redis at {where})") from error
            loading.tell(str(error).removeprefix("LOADING "))
        except BusUnavailableError as error:
            raise BusUnavailableError(f"cannot reach Redis at {where}: {error}") from error
        await asyncio.sleep(_LOADING_POLL_SECONDS)


async def _warn_of_eviction(commands: Commands, counters: Counters) -> None:
    try:
        risk = eviction_risk((await commands.command("INFO", "memory")).decode(errors="replace"))
    except BusUnavailableError as error:
        logger.debug("cannot tell whether Redis evicts keys: %s", error)
        return
    if risk is not None:
        counters.add("eviction_risks")
        logger.warning("%s", risk)
