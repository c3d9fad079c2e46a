"""Watch one execution through any of several gateways: resumes by itself until the ending."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError, aconnect_sse
from pydantic import BaseModel

from tailrace.bus.model.retry import Backoff
from tailrace.cli.client.frame import ControlFrame, Received, age_seconds, position, read_frame
from tailrace.cli.client.gateway_url import GatewayUrl, all_loopback
from tailrace.cli.client.token import VARIABLE, headers
from tailrace.cli.errors import GatewayRequestError
from tailrace.cli.exit_codes import ExitCode

# Gateways send a heartbeat every 10 s: what is silent for three of them is dead, whatever TCP thinks.
SILENCE_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
DEFAULT_RETRY_SECONDS: Final = 1.0
MOST_RETRY_SECONDS: Final = 30.0
FIRST_CONTACT_SECONDS: Final = 5.0
GIVE_UP_SECONDS: Final = 120.0
MAX_LATENCIES: Final = 100_000
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Connected:
    gateway: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """``reason`` is a sentence; the watch goes on after ``delay_seconds``."""

    gateway: str
    reason: str
    delay_seconds: float


@dataclass(slots=True)
class Tally:
    """``resumes`` counts connections that went on after a cursor, ``latencies`` are seconds of what came live."""

    events: int = 0
    resumes: int = 0
    gaps: int = 0
    duplicates: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))


Item = Received | ControlFrame | Connected | Disconnected


class _State(BaseModel):
    status: str


class GatewayWatch:
    """One viewer. ``ending`` is the status the execution ended with, None while there was no ending.

    A stream that merely stops is never an ending: the watch resumes after the last id, on the next gateway.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        gateways: Sequence[str],
        execution_id: str,
        *,
        after: str = "",
        types: str = "",
        first_contact_seconds: float = FIRST_CONTACT_SECONDS,
        give_up_seconds: float = GIVE_UP_SECONDS,
        jitter: Callable[[], float] = random.random,
        unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        """Gateways are tried in order, from the first on; ``client`` should allow a connection for each watch."""
        self.execution_id = execution_id
        self.cursor = after
        self.tally = Tally()
        self.ending: str | None = None
        self._client = client
        self._gateways = gateways
        self._at = 0
        self._types = types
        self._give_up_seconds = give_up_seconds
        self._patience_seconds = first_contact_seconds
        self._jitter = jitter
        self._unix_seconds = unix_seconds
        self._retry_seconds = DEFAULT_RETRY_SECONDS
        self._last: tuple[int, int] | None = position(after)
        self._live = False
        self._over = False
        self._failures = 0

    async def items(self) -> AsyncGenerator[Item, None]:
        """Give everything in order until the ending.

        Raises GatewayRequestError when no gateway answers for long, or one refuses for good.
        """
        last_contact = time.monotonic()
        while not self._has_ended():
            gateway = self._gateways[self._at]
            try:
                async with aclosing(self._connection(gateway)) as stream:
                    async for item in stream:
                        last_contact = time.monotonic()
                        self._patience_seconds = self._give_up_seconds
                        yield item
                reason = "the stream stopped without an ending"
            except (httpx.TransportError, _NotNowError) as error:
                reason = _sentence(error)
            if self._has_ended():
                return
            if time.monotonic() - last_contact > self._patience_seconds:
                raise GatewayRequestError(
                    f"no gateway answers at {', '.join(self._gateways)} ({reason}); "
                    "check that one runs there, or name another with --gateway"
                )
            self._failures += 1
            self._live = False
            self._at = (self._at + 1) % len(self._gateways)
            delay = Backoff(self._retry_seconds, MOST_RETRY_SECONDS).delay_seconds(self._failures, self._jitter)
            yield Disconnected(gateway, reason, delay)
            await asyncio.sleep(delay)

    async def _connection(self, gateway: str) -> AsyncGenerator[Item, None]:
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        url = f"{gateway}/v1/executions/{self.execution_id}/events"
        params = {"types": self._types} if self._types else {}
        async with aconnect_sse(self._client, "GET", url, headers=headers, params=params) as source:
            if source.response.status_code == httpx.codes.NO_CONTENT:
                self.ending = self.ending or await self._status(gateway)
                self._over = True
                return
            await _check(gateway, source.response)
            resumed = bool(self.cursor)
            self.tally.resumes += resumed
            yield Connected(gateway, resumed)
            async with aclosing(_frames(gateway, source)) as frames:
                async for frame in frames:
                    self._failures = 0
                    if frame.retry is not None:
                        self._retry_seconds = min(max(frame.retry / 1000, 0.01), MOST_RETRY_SECONDS)
                    if item := self._take(frame):
                        yield item
                    if self._over:
                        return

    def _has_ended(self) -> bool:
        # The terminal event is the last of its log: with it in hand, nothing else need say that it was.
        return self._over or self.ending is not None

    def _take(self, frame: ServerSentEvent) -> Item | None:
        if not frame.data:
            return None
        item = read_frame(frame.event, frame.id, frame.data)
        if isinstance(item, ControlFrame):
            if item.type in _WITH_CURSOR:
                self._advance(frame.id)
            self._heed(item)
            return item
        self.tally.events += 1
        duplicate = not self._advance(item.id)
        self.tally.duplicates += duplicate
        latency = age_seconds(item.ts, self._unix_seconds()) if self._live and not duplicate else None
        if latency is not None:
            self.tally.latencies.append(latency)
        if item.type in _ENDINGS:
            self.ending = _ENDINGS[item.type]
        return replace(item, latency_seconds=latency, duplicate=duplicate)

    def _heed(self, control: ControlFrame) -> None:
        match control.type:
            case "stream.caught_up":
                self._live = True
            case "stream.gap":
                self.tally.gaps += 1
                # What follows is another stretch, perhaps another log: its ids need not be above.
                self._last = None
            case "stream.end":
                status = control.payload.get("status")
                if self.ending is None and isinstance(status, str) and status in _ENDINGS.values():
                    self.ending = status
                self._over = True
            case "stream.error" if "retry_ms" not in control.payload:
                detail = control.payload.get("detail") or control.payload.get("message") or control.payload
                raise GatewayRequestError(f"the gateway ended the stream: {detail}")

    def _advance(self, entry_id: str) -> bool:
        """Move the cursor; False when that would not be forward."""
        reached = position(entry_id)
        if reached is None or (self._last is not None and reached <= self._last):
            return False
        self._last, self.cursor = reached, entry_id
        return True

    async def _status(self, gateway: str) -> str | None:
        """How it ended, for a cursor that was at the end already."""
        response = await self._client.get(f"{gateway}/v1/executions/{self.execution_id}")
        await _check(gateway, response)
        return str(answer_of(gateway, response, _State)["status"])


# What has an id of its own, and not the last event's.
_WITH_CURSOR: Final = frozenset({"stream.open", "stream.cursor"})
_ENDINGS: Final = {
    "execution.completed": "completed",
    "execution.failed": "failed",
    "execution.cancelled": "cancelled",
    "execution.timed_out": "timed_out",
}


def client_for(gateways: Sequence[str]) -> httpx.AsyncClient:
    """A client that shows the user's credential, and that no proxy keeps from this machine's own gateways."""
    return httpx.AsyncClient(
        headers=headers(),
        auth=_Credentials(gateways),
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=4),
        trust_env=not all_loopback(gateways),
    )


class _Credentials(httpx.Auth):
    """To each gateway the user and password that were given in its URL, and to no other."""

    def __init__(self, gateways: Sequence[str]) -> None:
        self._known = {
            _origin(httpx.URL(gateway)): httpx.BasicAuth(*gateway.credentials)
            for gateway in gateways
            if isinstance(gateway, GatewayUrl) and gateway.credentials is not None
        }

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        known = self._known.get(_origin(request.url))
        if known is None:
            yield request
        else:
            yield from known.auth_flow(request)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def exit_code_of(ending: str | None) -> ExitCode:
    """An ending that was not seen is no success."""
    return ExitCode.OK if ending == "completed" else ExitCode.RUN_FAILED


def answer_of(gateway: str, response: httpx.Response, shape: type[BaseModel]) -> dict[str, Any]:
    """The JSON that a gateway answers with. Raises GatewayRequestError when it is not what the API says."""
    try:
        shape.model_validate_json(response.content)
        answer: dict[str, Any] = response.json()
    except ValueError:
        raise GatewayRequestError(
            f"{gateway} answered, but not like a gateway of this version; is it a Tailrace gateway?"
        ) from None
    return answer


class _NotNowError(Exception):
    """The gateway cannot just now; another one, or it itself later, may."""


async def _frames(gateway: str, source: EventSource) -> AsyncGenerator[ServerSentEvent, None]:
    try:
        async with aclosing(source.aiter_sse()) as frames:
            async for frame in frames:
                yield frame
    except SSEError as error:
        raise GatewayRequestError(
            f"{gateway} answers, but not with Server-Sent Events ({error}); is it a gateway?"
        ) from None


async def _check(gateway: str, response: httpx.Response) -> None:
    if response.is_success:
        return
    await response.aread()
    sentence = problem_of(response)
    if response.status_code in _TRANSIENT:
        raise _NotNowError(sentence)
    unknown = response.status_code == httpx.codes.NOT_FOUND
    raise GatewayRequestError(f"{gateway}: {sentence}", ExitCode.UNKNOWN_EXECUTION if unknown else ExitCode.GATEWAY)


def problem_of(response: httpx.Response) -> str:
    """The sentence of an RFC 9457 problem, or what there is instead."""
    said = f"HTTP {response.status_code} {response.reason_phrase}".rstrip()
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        said = str(problem.get("detail") or problem.get("title") or said)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        # How a header is sent is of no use to who types a command.
        return f"this gateway wants a credential, as in {VARIABLE}=…, a JWT or an API key ({said})"
    return said


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
