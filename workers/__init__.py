"""Workers: pipelines, and the process that runs them. Stands on the bus; knows nothing of HTTP."""

from workers.context import Context
from workers.errors import (
    InputInvalidError,
    OutputInvalidError,
    PipelineUnknownError,
    PipelineWithheldError,
    StepExitedError,
    WorkerError,
    WorkerLostError,
)
from workers.pipeline import Outputs, Pipeline, Step
from workers.pipelines.command import CommandFailedError, run_command
from workers.registry import Registry, built_in
from workers.settings import WorkerSettings
from workers.worker import Worker

__all__ = [
    "CommandFailedError",
    "Context",
    "InputInvalidError",
    "OutputInvalidError",
    "Outputs",
    "Pipeline",
    "PipelineUnknownError",
    "PipelineWithheldError",
    "Registry",
    "Step",
    "StepExitedError",
    "Worker",
    "WorkerError",
    "WorkerLostError",
    "WorkerSettings",
    "built_in",
    "run_command",
]
