"""What one attempt is to do, and whether another may follow it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.retry import Backoff
from tailrace.bus.model.submission import Submission
from tailrace.workers.definition.pipeline import Pipeline
from tailrace.workers.errors import (
    InputInvalidError,
    OutputInvalidError,
    PipelineTimeoutError,
    StepInputInvalidError,
    StepStuckError,
    WorkerLostError,
)
from tailrace.workers.running.runner import checked_input
from tailrace.workers.worker.registry import Registry

MOST_RETRY_SECONDS: Final = 3600.0
# What would only come to the same end, or has ended the execution already.
_FOR_GOOD: Final = (
    InputInvalidError,
    InvalidInputError,
    OutputInvalidError,
    PipelineTimeoutError,
    StepInputInvalidError,
    StepStuckError,
)


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """``pipeline`` is the one that its input decided on; ``failures`` the attempts that were repeated for failing."""

    pipeline: Pipeline
    input_value: Any
    failures: int
    asked_attempts: int | None

    @property
    def max_attempts(self) -> int:
        """How often it may be begun at all, as it stands: an attempt that failed costs no worker's loss."""
        return self._no_more_than_asked(self.pipeline.max_attempts + self.failures)

    @property
    def may_be_repeated(self) -> bool:
        """Whether it does no harm to begin it again, though it was left half way."""
        return self._no_more_than_asked(self.pipeline.max_attempts) > 1

    def check_attempt(self, attempt: int) -> None:
        """Raises WorkerLostError for one attempt too many."""
        if attempt > self.max_attempts:
            raise WorkerLostError(self.pipeline.name, attempt - 1 - self.failures)

    def retry_delay_seconds(self, error: Exception, attempt: int, random: Callable[[], float]) -> float | None:
        """When to begin it again after an attempt that failed; None when that is how it ends."""
        if isinstance(error, _FOR_GOOD) or self.failures >= self.pipeline.retries:
            return None
        if self.asked_attempts is not None and attempt >= self.asked_attempts:
            return None
        first_seconds = self.pipeline.retry_delay_seconds
        backoff = Backoff(first_seconds, max(first_seconds, MOST_RETRY_SECONDS))
        return backoff.delay_seconds(self.failures + 1, random)

    def _no_more_than_asked(self, attempts: int) -> int:
        return attempts if self.asked_attempts is None else min(attempts, self.asked_attempts)


def plan_of(registry: Registry, submission: Submission, *, failures: int) -> AttemptPlan:
    """Raises WorkerError for what cannot be run."""
    pipeline = registry.get(submission.pipeline)
    input_value = checked_input(pipeline.input_model, submission.input)
    while pipeline.unfold is not None:
        pipeline, input_value = pipeline.unfold(input_value)
    return AttemptPlan(pipeline, input_value, failures, submission.max_attempts)
