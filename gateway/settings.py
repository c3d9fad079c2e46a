"""The gateway's part of the environment: every ``TAILRACE_*`` variable it knows, read in one place."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from tailrace.bus import InvalidInputError
from tailrace.gateway.auth.settings import AuthSettings, check_host
from tailrace.gateway.limits.settings import LimitSettings

MIB: Final = 1024 * 1024


class GatewaySettings(AuthSettings, LimitSettings):
    """Where and within which bounds a gateway serves. Raises pydantic's ValidationError; see ``read_settings``."""

    model_config = SettingsConfigDict(env_prefix="TAILRACE_", extra="ignore", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="0 takes a free one")
    processes: int = Field(1, ge=1, le=256, description="processes that share the port")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="host names accepted in the Host header, beside those of loopback; comma-separated",
    )

    heartbeat_seconds: float = Field(10.0, gt=0, le=300, description="silence after which a heartbeat is sent")
    slow_timeout_seconds: float = Field(
        30.0, gt=0, description="a viewer that takes no data for this long is disconnected"
    )
    vanished_seconds: float = Field(
        60.0, ge=1, le=3600, description="a connection that acknowledges no data for this long is closed"
    )
    retry_ms: int = Field(1000, ge=0, le=600_000, description="how long an EventSource waits before it reconnects")
    linger_seconds: float = Field(5.0, ge=0, description="how long an execution is watched after its last viewer left")
    drain_seconds: float = Field(
        10.0, ge=0, le=3600, description="period over which viewers are asked to reconnect elsewhere at shutdown"
    )
    ring_entries: int = Field(1024, ge=1, description="recent entries kept per watched execution")
    ring_bytes: int = Field(4 * MIB, ge=1024, description="the same in bytes")

    direct_writes: bool = Field(
        default=True, description="write past the server's send(), where the installed uvicorn is as expected"
    )
    ws_deflate: bool = Field(
        default=False, description="compress WebSockets whose clients offer it (permessage-deflate, RFC 7692)"
    )
    access_log: bool = Field(default=False, description="log a line for each request, without its query")
    head_seconds: float = Field(10.0, gt=0, le=300, description="time within which the head of a request must arrive")
    max_body_bytes: int = Field(MIB, ge=1024, description="largest body of a request")
    body_seconds: float = Field(30.0, gt=0, description="time within which the body of a request must arrive")
    max_page: int = Field(1000, ge=1, le=10_000, description="maximum number of events in a JSON page")
    page_bytes: int = Field(4 * MIB, ge=1024, description="size at which a JSON page ends")

    @field_validator("host")
    @classmethod
    def _only_loopback(cls, host: str, info: ValidationInfo) -> str:
        # The fields of the classes above come first; those that were refused are missing.
        return check_host(host, auth_required=cls.model_construct(**info.data).auth_required)

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given


def read_settings(**given: Any) -> GatewaySettings:
    """Read the environment, overruled by what is given. Raises InvalidInputError that names the first bad setting."""
    try:
        return GatewaySettings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInputError(".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")) from None
