"""The worker's part of the environment: every ``TAILRACE_*`` variable it knows, read in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class WorkerSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TAILRACE_", extra="ignore")

    queues: Annotated[tuple[Name, ...], NoDecode] = Field(
        ("default",), min_length=1, max_length=64, description="comma-separated; those named first go first"
    )
    concurrency: int = Field(8, ge=1, le=1000, description="executions at a time")
    processes: int = Field(1, ge=1, le=256, description="processes of so many executions each")
    drain_seconds: float = Field(10.0, ge=0, le=3600, description="what a stop leaves the executions to end well")
    allow_command: bool = Field(default=False, description="let everyone who may submit run any program as this user")
    pipelines: Annotated[tuple[str, ...], NoDecode] = Field(
        (), max_length=64, description="comma-separated module:attribute of pipelines of one's own"
    )
    document_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), max_length=64, description="comma-separated folders whose files may be read as documents; none if unset"
    )
    document_seconds: float = Field(
        120.0,
        ge=1,
        le=3600,
        description="processor time that parsing a document may take; by the clock ten times that, a minute at least",
    )
    document_memory_mb: int = Field(1024, ge=256, le=1 << 20, description="memory that parsing a document may take")
    document_processes: int = Field(2, ge=1, le=64, description="documents that are parsed at a time")
    metrics_host: str = Field("127.0.0.1", description="listen here for Prometheus")
    metrics_port: int | None = Field(None, ge=0, le=65535, description="and here; 0 takes a free one, unset: nowhere")
    worker_name: Name | None = Field(None, description="shown as consumer of the queue; the host and process if unset")

    @field_validator("queues", "pipelines", "document_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("document_roots")
    @classmethod
    def _folders(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for each in value:
            if not each.is_absolute() or not each.is_dir():
                raise ValueError(f"{str(each)!r} is not the absolute path of a folder that exists here")
        return value

    @field_validator("queues", "pipelines")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))
