"""Which pipelines a worker knows. Names come from requests, so nothing but what is registered here can be run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from workers.errors import PipelineUnknownError, PipelineWithheldError
from workers.pipeline import Pipeline
from workers.pipelines.command import COMMAND
from workers.pipelines.document import DOCUMENT

ALLOW_COMMAND = (
    "it runs any program as the worker's user, so its operator must start it with --allow-command "
    "(or TAILRACE_ALLOW_COMMAND=1)"
)


class Registry:
    def __init__(self, pipelines: Iterable[Pipeline], *, withheld: Mapping[str, str] | None = None) -> None:
        """``withheld`` are names that exist but may not be run here, each with how to allow it.

        Raises ValueError for a name that is given twice.
        """
        self._pipelines: dict[str, Pipeline] = {}
        self._withheld = dict(withheld or {})
        for pipeline in pipelines:
            if pipeline.name in self._pipelines:
                raise ValueError(f"pipelines: more than one is named {pipeline.name!r}")
            self._pipelines[pipeline.name] = pipeline

    @property
    def names(self) -> list[str]:
        return sorted(self._pipelines)

    def get(self, name: str) -> Pipeline:
        """Raises PipelineUnknownError, PipelineWithheldError."""
        pipeline = self._pipelines.get(name)
        if pipeline is not None:
            return pipeline
        if name in self._withheld:
            raise PipelineWithheldError(name, self._withheld[name])
        raise PipelineUnknownError(name, self._pipelines)


def built_in(*, allow_command: bool) -> Registry:
    """The pipelines that come with Tailrace."""
    if allow_command:
        return Registry([DOCUMENT, COMMAND])
    return Registry([DOCUMENT], withheld={COMMAND.name: ALLOW_COMMAND})
