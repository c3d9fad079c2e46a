from __future__ import annotations

import workers


def test_the_public_api_is_what_it_is_said_to_be() -> None:
    assert sorted(workers.__all__) == [
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
    assert all(hasattr(workers, name) for name in workers.__all__)
