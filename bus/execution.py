"""A run, as whoever runs it sees it: lease, heartbeat, fence and ending around any piece of code."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, Final, Self

from bus.cursor import Cursor
from bus.errors import (
    BusError,
    BusUnavailableError,
    EventTooLargeError,
    ExecutionClosedError,
    FenceStaleError,
    InvalidEventError,
    LeaseLostError,
    PublishFailedError,
)
from bus.event import CANCELLED, COMPLETED, FAILED, RETRYING, STARTED, encode_json
from bus.lease import Lease, Leases
from bus.log import Log
from bus.publisher import Publisher

logger = logging.getLogger(__name__)

# How long an ending may take when the code around it was cancelled and wants to be gone.
ENDING_SECONDS: Final = 10.0
# A sentence is for people; what a library puts into an exception may be a megabyte.
MAX_MESSAGE_CHARS: Final = 4000
MAX_DETAILS_BYTES: Final = 64 * 1024


class Execution:
    """Appends ``execution.started`` on entering and the right terminal event on leaving.

    Leaving normally completes it with ``result``; an exception fails it with its sentence; cancellation cancels it.
    A lost lease cancels the body, which then sees LeaseLostError: somebody else runs it now and will end it.
    """

    def __init__(
        self,
        log: Log,
        leases: Leases,
        execution_id: str,
        *,
        owner: str,
        pipeline: str | None,
        publisher: dict[str, Any],
    ) -> None:
        self.id = execution_id
        self.result: Any = None
        self.pipeline = pipeline
        self._log = log
        self._leases = leases
        self._owner = owner
        self._publisher_options = publisher
        self._publisher: Publisher | None = None
        self._lease: Lease | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._body: asyncio.Task[Any] | None = None
        self._lost = False

    @property
    def publisher(self) -> Publisher:
        if self._publisher is None:
            raise RuntimeError("the execution has not been entered: use 'async with'")
        return self._publisher

    @property
    def attempt(self) -> int:
        """1 for the first who ran it, rising with every take-over."""
        return self._lease.attempt if self._lease is not None else 0

    @property
    def fence(self) -> int:
        """Risen with every taking: what we write counts while no other has a higher one."""
        return self._lease.fence if self._lease is not None else 0

    async def emit(
        self,
        event_type: str,
        data: Any = None,
        *,
        step: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Buffer one event, off the critical path. See Publisher.emit."""
        await self.publisher.emit(event_type, data, step=step, meta=meta)

    async def append(self, event_type: str, data: Any = None, *, step: str | None = None) -> Cursor:
        """Emit one event and wait until it is in the log."""
        return await self.publisher.append(event_type, data, step=step)

    async def complete(self, result: Any = None) -> Cursor:
        """End it now, well."""
        return await self.append(COMPLETED, {"result": result})

    async def fail(self, reason: str, message: str, **details: Any) -> Cursor:
        """End it now, badly; ``reason`` is a word for programs, ``message`` a sentence for people."""
        return await self.append(FAILED, {"reason": reason, "message": message, **details})

    async def __aenter__(self) -> Self:
        self._lease = await self._leases.take(self.id, self._owner, self.pipeline)
        self._publisher = self._new_publisher("body", **self._publisher_options)
        self._body = asyncio.current_task()
        self._heartbeat = asyncio.create_task(self._beat(self._lease), name=f"heartbeat:{self.id}")
        data: dict[str, Any] = {"attempt": self._lease.attempt, "owner": self._owner}
        if self.pipeline is not None:
            data["pipeline"] = self.pipeline
        try:
            if self._lease.status in {"running", "paused"}:
                # Whoever ran it is gone: its attempt ends here, ours begins.
                await self.emit(RETRYING, {"attempt": self._lease.attempt, "reason": "worker_lost"})
            await self.append(STARTED, data)
        except BaseException:
            await self._leave()
            raise
        return self

    def _new_publisher(self, part: str, **options: Any) -> Publisher:
        fence = self._lease.fence if self._lease is not None else None
        # One producer an attempt: numbers of a predecessor never meet ours.
        return Publisher(self._log, self.id, producer=f"{self._owner}.{fence}.{part}", fence=fence, **options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # From here on a lost lease cancels nobody: the log itself refuses the ending.
        body, self._body = self._body, None
        try:
            if self._lost:
                cancelled_by_others = body is not None and body.uncancel() > 0
                if cancelled_by_others and isinstance(error, asyncio.CancelledError):
                    return False
                raise LeaseLostError(self.id) from error
            await self._owe(asyncio.ensure_future(self._end(error)))
        finally:
            await self._leave()
        return False

    async def _owe(self, ending: asyncio.Future[None]) -> None:
        """Wait for the ending also when the body's task is being cancelled, even while it ends."""
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending], timeout=ENDING_SECONDS)
            raise

    async def _end(self, error: BaseException | None) -> None:
        try:
            async with asyncio.timeout(ENDING_SECONDS if error is not None else None):
                await self._append_ending(error)
        except (BusError, TimeoutError) as refusal:
            if error is None:
                if isinstance(refusal, FenceStaleError):
                    raise LeaseLostError(self.id) from refusal
                raise
            # The body's own error is what the caller must see; a healer tells the viewers when the lease runs out.
            logger.exception("execution %s: its ending could not be appended: %s", self.id, refusal)  # noqa: TRY401 - the sentence, not only the trace

    async def _append_ending(self, error: BaseException | None) -> None:
        try:
            if self.publisher.closes_log:
                await self.publisher.aclose()
            elif error is None:
                await self._complete()
            elif isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)):
                await self.publisher.append(CANCELLED, {"reason": "cancelled", "message": "the program stopped it"})
            else:
                await _append_failed(self.publisher, failure_of(error))
        except PublishFailedError as failure:
            await self._confess(failure)
            raise

    async def _confess(self, failure: PublishFailedError) -> None:
        """Events were lost: that must stand in the log, even if the execution went well."""
        # What became of the last batch is unknown, so its producer's numbers are of no use any more.
        words = self._new_publisher("ending", give_up_after_seconds=ENDING_SECONDS)
        try:
            await _append_failed(
                words,
                {"reason": "publish_failed", "message": _text(str(failure)), "lost_events": failure.lost_events},
            )
        except ExecutionClosedError:
            logger.debug("execution %s: its ending had been appended after all", self.id)
        except BusError as refusal:
            # A healer tells the viewers when the lease runs out.
            logger.error("execution %s: its failure could not be appended: %s", self.id, refusal)  # noqa: TRY400 - no trace helps
        finally:
            await words.abandon()

    async def _complete(self) -> None:
        try:
            await self.publisher.append(COMPLETED, {"result": self.result})
        except InvalidEventError as error:
            # A result that cannot be shown must not cost the execution its ending.
            await self.publisher.append(FAILED, {"reason": "invalid_result", "message": f"the result: {error}"})
            raise

    async def _leave(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait([self._heartbeat])
        await self.publisher.abandon()
        if self._lease is not None and not self._lost:
            try:
                await self._leases.release(self._lease)
            except (BusUnavailableError, LeaseLostError) as error:
                logger.debug("execution %s: lease not released: %s", self.id, error)

    async def _beat(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._leases.lease_seconds / 3)
            try:
                await self._leases.renew(lease)
            except ExecutionClosedError:
                return
            except LeaseLostError:
                self._lost = True
                self._log.counters.add("leases_lost")
                logger.error("execution %s: lease lost; stopping", self.id)  # noqa: TRY400 - no trace helps
                if self._body is not None:
                    self._body.cancel()
                return
            except BusUnavailableError as error:
                self._log.counters.add("lease_renew_retries")
                logger.warning("execution %s: lease not renewed: %s", self.id, error)


async def _append_failed(publisher: Publisher, failure: dict[str, Any]) -> None:
    try:
        await publisher.append(FAILED, failure)
    except EventTooLargeError as error:
        # Events may be as small as 256 bytes; that it failed must fit into any.
        await publisher.append(FAILED, {"reason": "exception", "message": f"its reason has {error.size_bytes} bytes"})


def failure_of(error: BaseException) -> dict[str, Any]:
    """The reason in data: a word for programs, a sentence for people, never a traceback.

    An exception may carry its word as ``code`` (a str) and more data as ``details`` (a JSON object).
    """
    code = getattr(error, "code", None)
    return {
        **_details(error),
        "reason": _text(code) if isinstance(code, str) else "exception",
        "message": _text(str(error)) or type(error).__name__,
        "exception": type(error).__name__,
    }


def _details(error: BaseException) -> dict[str, Any]:
    details = getattr(error, "details", None)
    if not isinstance(details, dict):
        return {}
    try:
        encode_json(details, limit_bytes=MAX_DETAILS_BYTES)
    except InvalidEventError:
        # Some library's own idea of details: what cannot be shown must not cost the execution its ending.
        return {}
    return details


def _text(text: str) -> str:
    short = text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 3] + "..."
    # Half a surrogate pair (from a file name that is no UTF-8, say) has no JSON form.
    return short.encode("utf-8", "replace").decode()
