"""The bus's part of the environment: every ``TAILRACE_*`` variable it knows, read in one place."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tailrace.bus.jobs.jobs import MAX_QUEUE_JOBS
from tailrace.bus.model.event import MAX_EVENT_BYTES
from tailrace.bus.model.retention import Retention
from tailrace.bus.ops.logging import LogFormat
from tailrace.bus.ownership.lease import LEASE_SECONDS

_DEFAULT = Retention()


class BusSettings(BaseSettings):
    """Where the bus is, and what holds for all that is on it: ``TAILRACE_`` and the name, in capitals."""

    model_config = SettingsConfigDict(env_prefix="TAILRACE_", extra="ignore", hide_input_in_errors=True)

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="redis://, rediss://, unix:// or embedded://[path]"
    )
    prefix: str = Field("tr", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="prefix of every key")
    tail: Literal["auto", "tracking", "blocking"] = Field("auto", description="how streams are watched")
    log_format: LogFormat = Field("text", description="what is logged to stderr: lines of text, or of JSON")
    max_event_bytes: int = Field(
        MAX_EVENT_BYTES, ge=256, le=16 * 1024 * 1024, description="largest event's data as JSON; alike in all processes"
    )
    lease_seconds: float = Field(
        LEASE_SECONDS,
        ge=0.5,
        le=3600,
        description="how long a process that hangs, or is unreachable, keeps what it runs",
    )
    on_uncertain: Literal["stop", "continue"] = Field(
        "stop", description="what an owner does that cannot renew its lease: stop before another may begin, or go on"
    )
    replicas: int = Field(
        0,
        ge=0,
        le=16,
        description="how many replicas of Redis must have an append before it returns (WAIT); 0 asks none",
    )
    max_queue_jobs: int = Field(MAX_QUEUE_JOBS, ge=1, description="most jobs of a queue, delayed ones included")
    max_entries: int = Field(_DEFAULT.max_entries, ge=1, description="most entries of a log; the oldest go first")
    max_log_bytes: int = Field(_DEFAULT.max_bytes, ge=64 * 1024, description="most memory of a log")
    live_seconds: int = Field(
        _DEFAULT.live_seconds, ge=1, description="log and state expire after so long without an append or a heartbeat"
    )
    ended_seconds: int = Field(_DEFAULT.ended_seconds, ge=1, description="how long the log is kept after the ending")
    ended_state_seconds: int = Field(
        _DEFAULT.ended_state_seconds, ge=1, description="how long the state is kept after the ending"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.live_seconds < self.lease_seconds:
            raise ValueError("live_seconds must be at least lease_seconds: heartbeats keep a quiet log from expiring")
        if self.ended_state_seconds < self.ended_seconds:
            raise ValueError("ended_state_seconds must be at least ended_seconds: the state tells how a log ended")
        return self

    @property
    def retention(self) -> Retention:
        return Retention(
            max_entries=self.max_entries,
            max_bytes=self.max_log_bytes,
            live_seconds=self.live_seconds,
            ended_seconds=self.ended_seconds,
            ended_state_seconds=self.ended_state_seconds,
        )
