"""What the agents try, and how they tell whether it went through."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

MAX_URL: Final = 2000
MAX_BYTES: Final = 100_000
PROBE_SECONDS: Final = float(os.environ.get("SCAN_PROBE_SECONDS", "10"))
_PORTS: Final = {"http": 80, "https": 443}


class TargetError(Exception):
    """The message says what is wrong with which target."""


@dataclass(frozen=True)
class Probe:
    """``detect`` gives from 0 to 1 how sure it is, by status and body of the answer, that the target is open to it."""

    agent: str
    name: str
    path: str
    query: dict[str, str]
    detect: Callable[[int, str], float]
    headers: dict[str, str] | None = None


def _welcomed(status: int, body: str) -> float:
    return 0.95 if status == httpx.codes.OK and "welcome" in body else 0.0


def _sent_on(status: int, _: str) -> float:
    return 0.8 if status in {301, 302, 303, 307, 308} else 0.0


PROBES: Final = (
    Probe("sql", "sqli_tautology", "/login", {"user": "' OR '1'='1' --"}, _welcomed),
    Probe("sql", "sqli_comment", "/login", {"user": "admin' --"}, _welcomed),
    Probe(
        "sql",
        "sqli_union",
        "/search",
        {"q": "' UNION SELECT password FROM users --"},
        lambda _, body: 0.9 if "3 found" in body else 0.0,
    ),
    Probe("auth", "auth_missing", "/account", {}, _welcomed),
    Probe("auth", "auth_header_trust", "/account", {}, _welcomed, {"X-Forwarded-User": "admin"}),
    Probe(
        "xss",
        "xss_reflected",
        "/search",
        {"q": "<script>probe</script>"},
        lambda _, body: 0.99 if "<script>probe</script>" in body else 0.0,
    ),
    Probe("redirect", "open_redirect", "/redirect", {"to": "https://probe.invalid/"}, _sent_on),
)
AGENTS: Final = tuple(dict.fromkeys(probe.agent for probe in PROBES))


def origin_of(url: str) -> str:
    """As ``http://127.0.0.1:8300``. Raises ValueError for what is no target."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise ValueError(f"must be at most {MAX_URL} printable characters without spaces")
    if parts.scheme not in _PORTS or not host:
        raise ValueError("must be an http or https URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user name or password")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port or _PORTS[parts.scheme]}"


TARGETS: Final = frozenset(
    origin_of(origin.strip()) for origin in os.environ.get("SCAN_TARGETS", "").split(",") if origin.strip()
)


def check_target(url: str) -> str:
    """Raises ValueError: nobody makes us attack what the operator has not named."""
    origin = origin_of(url)
    if origin not in TARGETS:
        raise ValueError(f"{origin} is not a target that may be scanned; the operator names them, SCAN_TARGETS")
    return origin


async def ask(origin: str, path: str, query: dict[str, str], headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status, and the beginning of the body; redirects are not followed. Raises TargetError."""
    try:
        check_target(origin)
        async with (
            httpx.AsyncClient(timeout=PROBE_SECONDS) as client,
            client.stream("GET", f"{origin}{path}", params=query, headers=headers) as answer,
        ):
            body = b""
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    break
            return answer.status_code, body[:MAX_BYTES].decode(errors="replace")
    except ValueError as error:
        raise TargetError(f"{origin} cannot be scanned: {error}") from None
    except httpx.HTTPError as error:
        raise TargetError(f"{origin} cannot be reached: {str(error) or type(error).__name__}") from None
