"""Where a pipeline is run from; see workers.runner."""

from workers.runner import checked_input, run_pipeline

__all__ = ["checked_input", "run_pipeline"]
