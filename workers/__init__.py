"""Workers: pipelines, and the process that runs them. Stands on the bus; knows nothing of HTTP."""

from workers.blueprint import pipeline_from, pipeline_from_file
from workers.condition import Condition
from workers.context import Context
from workers.errors import (
    AnswerInvalidError,
    InputInvalidError,
    OutputInvalidError,
    PipelineInvalidError,
    PipelineTimeoutError,
    PipelineUnknownError,
    PipelineWithheldError,
    RegistryInvalidError,
    StepExitedError,
    StepInputInvalidError,
    StepOverError,
    StepProcessError,
    StepProcessLostError,
    StepTimeoutError,
    WorkerError,
    WorkerLostError,
)
from workers.outputs import Outputs
from workers.pipeline import Parallel, Pipeline, Sequence, Step
from workers.pipelines.command import CommandFailedError, run_command
from workers.plain_context import PlainContext
from workers.registry import Registry, built_in, load_registry, registry_for
from workers.runner import run_pipeline
from workers.settings import WorkerSettings
from workers.step_registry import StepRegistry
from workers.streaming import Streaming
from workers.worker import Worker

__all__ = [
    "AnswerInvalidError",
    "CommandFailedError",
    "Condition",
    "Context",
    "InputInvalidError",
    "OutputInvalidError",
    "Outputs",
    "Parallel",
    "Pipeline",
    "PipelineInvalidError",
    "PipelineTimeoutError",
    "PipelineUnknownError",
    "PipelineWithheldError",
    "PlainContext",
    "Registry",
    "RegistryInvalidError",
    "Sequence",
    "Step",
    "StepExitedError",
    "StepInputInvalidError",
    "StepOverError",
    "StepProcessError",
    "StepProcessLostError",
    "StepRegistry",
    "StepTimeoutError",
    "Streaming",
    "Worker",
    "WorkerError",
    "WorkerLostError",
    "WorkerSettings",
    "built_in",
    "load_registry",
    "pipeline_from",
    "pipeline_from_file",
    "registry_for",
    "run_command",
    "run_pipeline",
]
