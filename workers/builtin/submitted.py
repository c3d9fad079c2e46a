"""The pipeline that its input describes: a JSON document, submitted, run with the steps that this worker knows."""

from __future__ import annotations

from typing import Any, Final

from tailrace.workers.definition.blueprint import Blueprint
from tailrace.workers.definition.pipeline import Pipeline
from tailrace.workers.definition.step_registry import StepRegistry

NAME: Final = "pipeline"
# How often it is attempted, the document says; this is the most that it may say.
MAX_ATTEMPTS: Final = 100


def submitted_pipeline(steps: StepRegistry) -> Pipeline:
    """``tailrace submit pipeline --input-file ingest.json``."""

    def unfold(blueprint: Blueprint) -> tuple[Pipeline, Any]:
        return blueprint.pipeline(steps), blueprint.input

    return Pipeline(NAME, input_model=Blueprint, max_attempts=MAX_ATTEMPTS, unfold=unfold)
