"""Why a worker ends an execution with an error.

WorkerError
├── PipelineUnknownError     no pipeline of that name on this worker
├── PipelineNotAllowedError  there is one, but the operator has not allowed it
├── PipelineInvalidError     (also ValueError) a pipeline from JSON that cannot be run; names the field
├── PipelineTimeoutError     not done within its time
├── RegistryInvalidError     (also ValueError) what the operator named holds no pipelines
├── InputInvalidError        the input does not fit the pipeline
├── StepInputInvalidError    what a step is given does not fit its parameters
├── OutputInvalidError       what a step gave cannot be kept
├── StepTimeoutError         not done within its time
│   └── StepStuckError       and still running
├── StepExitedError          a step called sys.exit()
├── StepCancelledError       a task that a step awaited was cancelled, and not from outside
├── StepOverError            a step emits events after its end
├── StepProcessError         a step that is a process raised; carries what
├── StepProcessLostError     the process of a step ended without an output
├── AnswerInvalidError       an answer that does not fit its question; carries the problems
├── CommandError             a program could not be started or ended: workers/command/errors.py
├── CommandFailedError       a program ran and did not end with 0; carries its exit code or signal
├── DocumentError            a document cannot be read: workers/builtin/document/errors.py
├── CompletionError          a model's answer failed or broke off: workers/adapters/completion.py
├── PlanningError            the input model or the pipeline raised before the first step
└── WorkerLostError          too many workers were lost while they ran it

Each message is a sentence for the submitter; ``code`` is the reason in ``execution.failed``, for programs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tailrace.bus.errors import TailraceError


class WorkerError(TailraceError):
    code: str


class PipelineUnknownError(WorkerError):
    code = "unknown_pipeline"

    def __init__(self, name: str, known: Collection[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"There is no pipeline {name[:128]!r} on this worker; it knows: {names}.")


class PipelineNotAllowedError(WorkerError):
    code = "pipeline_not_allowed"

    def __init__(self, name: str, how_to_allow: str) -> None:
        super().__init__(f"The pipeline {name!r} is not allowed on this worker: {how_to_allow}.")


class PipelineInvalidError(WorkerError, ValueError):
    code = "invalid_pipeline"

    def __init__(self, problems: str) -> None:
        super().__init__(f"The pipeline cannot be used: {problems}.")


class PlanningError(WorkerError):
    """``place`` is the file and line that raised."""

    code = "planning_failed"

    def __init__(self, pipeline: str, cause: BaseException, place: str) -> None:
        what = f"{type(cause).__name__}: {str(cause)[:1000]}"
        super().__init__(f"Pipeline {pipeline[:128]!r} raised before its first step, at {place}: {what}.")
        self.details = {"place": place}


class PipelineTimeoutError(WorkerError):
    code = "timeout"

    def __init__(self, pipeline: str, timeout_seconds: float) -> None:
        super().__init__(f"Pipeline {pipeline!r} was not done within its {timeout_seconds:g} s.")
        self.timeout_seconds = timeout_seconds


class RegistryInvalidError(WorkerError, ValueError):
    code = "invalid_registry"

    def __init__(self, spec: str, problem: str) -> None:
        super().__init__(f"The pipelines {spec!r} cannot be used: {problem}.")


class InputInvalidError(WorkerError):
    code = "invalid_input"

    def __init__(self, problems: str) -> None:
        super().__init__(f"The input cannot be used: {problems}.")


class StepInputInvalidError(WorkerError):
    code = "invalid_input"

    def __init__(self, step: str, problems: str) -> None:
        super().__init__(f"Step {step!r} cannot use what it is given: {problems}.")


class OutputInvalidError(WorkerError):
    code = "invalid_output"

    def __init__(self, step: str, problem: str) -> None:
        super().__init__(f"The output of step {step!r} {problem}.")


class StepTimeoutError(WorkerError):
    code = "timeout"

    def __init__(self, step: str, timeout_seconds: float) -> None:
        super().__init__(f"Step {step!r} was not done within its {timeout_seconds:g} s.")


class StepStuckError(StepTimeoutError):
    """Not tried again: two tries at once would act twice."""

    def __init__(self, step: str, error: Exception) -> None:
        WorkerError.__init__(self, f"{error} It is still running, so it is not tried again.")
        self.step = step


class StepExitedError(WorkerError):
    code = "step_exited"

    def __init__(self, step: str, status: object) -> None:
        super().__init__(f"Step {step!r} called sys.exit({status!r}); a step ends by returning or raising.")


class StepCancelledError(WorkerError):
    """Not asyncio's own: a step that fails this way has failed, and its execution is not cancelled."""

    code = "step_cancelled"

    def __init__(self, step: str) -> None:
        super().__init__(
            f"Step {step!r} raised CancelledError, but nothing cancelled it: a task it awaited was cancelled."
        )


class StepOverError(WorkerError):
    code = "step_over"

    def __init__(self, step: str | None) -> None:
        super().__init__(f"This attempt at step {step!r} is over; its event was not sent.")


class StepProcessError(WorkerError):
    """``code`` is that of what was raised in the process; ``details`` go into ``step.failed``."""

    def __init__(self, failure: Mapping[str, Any], *, may_retry: bool) -> None:
        super().__init__(str(failure.get("message", "")))
        self.code = str(failure.get("reason", "exception"))
        told = {name: value for name, value in failure.items() if name not in {"reason", "message", "exception"}}
        self.details = {**told, "raised": failure.get("exception")}
        self.may_retry = may_retry


class StepProcessLostError(WorkerError):
    code = "process_lost"

    def __init__(self, step: str, how: str) -> None:
        super().__init__(f"The process of step {step!r} {how} before it gave an output.")


class AnswerInvalidError(WorkerError):
    code = "invalid_answer"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(f"The answer does not fit: {'; '.join(problems)}.")
        self.problems = list(problems)


class WorkerLostError(WorkerError):
    code = "worker_lost"

    def __init__(self, pipeline: str, attempts: int) -> None:
        times = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(f"The worker that ran it was lost {times}; pipeline {pipeline!r} allows no further attempt.")
