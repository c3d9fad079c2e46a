from __future__ import annotations

from tailrace import workers


def test_the_public_api_is_what_it_is_said_to_be() -> None:
    assert sorted(workers.__all__) == [
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
    assert all(hasattr(workers, name) for name in workers.__all__)
