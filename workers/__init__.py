"""Workers: pipelines, and the process that runs them. Stands on the bus; knows nothing of HTTP."""

from tailrace.workers.builtin.command import CommandFailedError, run_command
from tailrace.workers.command.screen import Screen
from tailrace.workers.definition.blueprint import pipeline_from, pipeline_from_file
from tailrace.workers.definition.condition import Condition
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.pipeline import Parallel, Pipeline, Sequential, Step
from tailrace.workers.definition.plain_context import PlainContext
from tailrace.workers.definition.step_registry import StepRegistry
from tailrace.workers.definition.streaming import Streaming
from tailrace.workers.errors import (
    AnswerInvalidError,
    InputInvalidError,
    OutputInvalidError,
    PipelineInvalidError,
    PipelineNotAllowedError,
    PipelineTimeoutError,
    PipelineUnknownError,
    RegistryInvalidError,
    StepCancelledError,
    StepExitedError,
    StepInputInvalidError,
    StepOverError,
    StepProcessError,
    StepProcessLostError,
    StepTimeoutError,
    WorkerError,
    WorkerLostError,
)
from tailrace.workers.handlers import Delivery, ExecutionMetrics, Handler, Handlers, JsonlFile
from tailrace.workers.running.runner import run_pipeline
from tailrace.workers.settings import WorkerSettings
from tailrace.workers.worker.registry import Registry, built_in, load_registry, registry_for
from tailrace.workers.worker.worker import Worker

__all__ = [
    "AnswerInvalidError",
    "CommandFailedError",
    "Condition",
    "Context",
    "Delivery",
    "ExecutionMetrics",
    "Handler",
    "Handlers",
    "InputInvalidError",
    "JsonlFile",
    "OutputInvalidError",
    "Outputs",
    "Parallel",
    "Pipeline",
    "PipelineInvalidError",
    "PipelineNotAllowedError",
    "PipelineTimeoutError",
    "PipelineUnknownError",
    "PlainContext",
    "Registry",
    "RegistryInvalidError",
    "Screen",
    "Sequential",
    "Step",
    "StepCancelledError",
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
