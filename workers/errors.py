"""Why a worker ends an execution badly.

WorkerError
├── PipelineUnknownError     no pipeline of that name on this worker
├── PipelineWithheldError    there is one, but the operator has not allowed it
├── InputInvalidError        the input does not fit the pipeline
├── OutputInvalidError       what a step gave cannot be kept
├── StepExitedError          a step called sys.exit()
└── WorkerLostError          too many workers were lost while they ran it

Each message is a sentence for whoever submitted; ``code`` is the reason in ``execution.failed``, for programs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar


class WorkerError(Exception):
    code: ClassVar[str]


class PipelineUnknownError(WorkerError):
    code = "unknown_pipeline"

    def __init__(self, name: str, known: Collection[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"There is no pipeline {name[:128]!r} on this worker; it knows: {names}.")


class PipelineWithheldError(WorkerError):
    code = "pipeline_not_allowed"

    def __init__(self, name: str, how_to_allow: str) -> None:
        super().__init__(f"The pipeline {name!r} is not allowed on this worker: {how_to_allow}.")


class InputInvalidError(WorkerError):
    code = "invalid_input"

    def __init__(self, problems: str) -> None:
        super().__init__(f"The input cannot be used: {problems}.")


class OutputInvalidError(WorkerError):
    code = "invalid_output"

    def __init__(self, step: str, problem: str) -> None:
        super().__init__(f"The output of step {step!r} {problem}.")


class StepExitedError(WorkerError):
    code = "step_exited"

    def __init__(self, step: str, status: object) -> None:
        super().__init__(f"Step {step!r} called sys.exit({status!r}); a step ends by returning or raising.")


class WorkerLostError(WorkerError):
    code = "worker_lost"

    def __init__(self, pipeline: str, attempts: int) -> None:
        times = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(
            f"The worker that ran it was lost {times}, and pipeline {pipeline!r} is not tried more often than that."
        )
