"""Which pipelines a worker knows. Names come from requests, so nothing but what is registered here can be run."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailrace.workers.builtin.command import COMMAND
from tailrace.workers.builtin.document.parsers import Limits, Parsers
from tailrace.workers.builtin.document_pipeline import DocumentSteps
from tailrace.workers.builtin.steps import STEPS
from tailrace.workers.builtin.submitted import submitted_pipeline
from tailrace.workers.definition.pipeline import Pipeline
from tailrace.workers.definition.step_registry import StepRegistry
from tailrace.workers.errors import PipelineNotAllowedError, PipelineUnknownError, RegistryInvalidError
from tailrace.workers.settings import WorkerSettings

ALLOW_COMMAND = (
    "it runs any program as the worker's user, so its operator must start it with --allow-command "
    "(or TAILRACE_ALLOW_COMMAND=1)"
)

_DOCUMENT_LIMITS = Limits()


class Registry:
    """``steps`` are those that pipelines from JSON may name; with any, such pipelines can be submitted."""

    def __init__(
        self,
        pipelines: Iterable[Pipeline] = (),
        *,
        steps: StepRegistry | None = None,
        withheld: Mapping[str, str] | None = None,
    ) -> None:
        """``withheld`` are names that exist but may not be run here, each with how to allow it.

        Raises ValueError for a name that is given twice.
        """
        self.steps = steps if steps is not None else StepRegistry()
        self._own: dict[str, Pipeline] = {}
        self._withheld = dict(withheld or {})
        for pipeline in pipelines:
            if pipeline.name in self._own:
                raise ValueError(f"pipelines: more than one is named {pipeline.name!r}")
            self._own[pipeline.name] = pipeline
        self._pipelines = dict(self._own)
        if self.steps:
            submitted = submitted_pipeline(self.steps)
            if submitted.name in self._own:
                raise ValueError(f"pipelines: the name {submitted.name!r} is reserved for pipelines submitted as JSON")
            self._pipelines[submitted.name] = submitted

    @property
    def names(self) -> list[str]:
        """Of all pipelines, sorted."""
        return sorted(self._pipelines)

    def get(self, name: str) -> Pipeline:
        """Raises PipelineUnknownError, PipelineNotAllowedError."""
        pipeline = self._pipelines.get(name)
        if pipeline is not None:
            return pipeline
        if name in self._withheld:
            raise PipelineNotAllowedError(name, self._withheld[name])
        raise PipelineUnknownError(name, self._pipelines)

    def joined(self, other: Registry) -> Registry:
        """Both together; steps of each may stand in one pipeline. Raises ValueError for a name that both have."""
        return Registry(
            [*self._own.values(), *other._own.values()],
            steps=self.steps.joined(other.steps),
            withheld={**self._withheld, **other._withheld},
        )


def built_in(
    *,
    allow_command: bool,
    document_roots: Sequence[Path] = (),
    document_limits: Limits = _DOCUMENT_LIMITS,
    document_processes: int = 2,
) -> Registry:
    """The pipelines and steps that come with Tailrace.

    ``document_roots`` are the folders whose files may be read as documents; without any, documents come by value only.
    """
    documents = DocumentSteps(Parsers(document_limits, processes=document_processes), tuple(document_roots))
    pipelines = [documents.pipeline(), *([COMMAND] if allow_command else [])]
    withheld = {} if allow_command else {COMMAND.name: ALLOW_COMMAND}
    return Registry(pipelines, steps=STEPS.joined(documents.registry()), withheld=withheld)


def registry_for(settings: WorkerSettings) -> Registry:
    """What a worker of these settings knows: what comes with Tailrace, and the operator's own.

    Raises RegistryInvalidError.
    """
    registry = built_in(
        allow_command=settings.allow_command,
        document_roots=settings.document_roots,
        document_limits=Limits(settings.document_seconds, settings.document_memory_mb << 20),
        document_processes=settings.document_processes,
    )
    for spec in settings.pipelines:
        own = load_registry(spec)
        try:
            registry = registry.joined(own)
        except ValueError as error:
            raise RegistryInvalidError(spec, str(error)) from None
    return registry


def load_registry(spec: str) -> Registry:
    """Load an operator's own pipelines from ``module:attribute``, as in ``my_app.pipelines:registry``.

    The attribute is a Registry, a StepRegistry, a Pipeline, or several pipelines. Modules are also looked for in the
    current folder. Never give it what comes from a request: it imports, and so runs, whatever it is told to.

    Raises RegistryInvalidError; what the module itself raises goes through as its cause.
    """
    module_name, colon, attributes = spec.partition(":")
    if not (colon and attributes and all(part.isidentifier() for part in module_name.split("."))):
        raise RegistryInvalidError(spec, "expected module:attribute, as in my_app.pipelines:registry")
    found: Any = _module(spec, module_name)
    for name in attributes.split("."):
        if not hasattr(found, name):
            raise RegistryInvalidError(spec, f"the module {module_name!r} has no attribute {attributes!r}")
        found = getattr(found, name)
    try:
        return _as_registry(found)
    except TypeError:
        problem = f"it is a {type(found).__name__}; expected a Registry, a StepRegistry, a Pipeline or a list of these"
        raise RegistryInvalidError(spec, problem) from None
    except ValueError as error:
        raise RegistryInvalidError(spec, str(error)) from None


def _module(spec: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        # A console script has its own folder there instead.
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise RegistryInvalidError(
                spec, f"there is no module {error.name!r}, neither installed nor in {here}"
            ) from None
        raise RegistryInvalidError(spec, f"the module {name!r} needs {error.name!r}, which is not installed") from error
    except Exception as error:
        raise RegistryInvalidError(spec, f"importing {name!r} raised {type(error).__name__}: {error}") from error


def _as_registry(found: Any) -> Registry:
    """Raises TypeError for what is no registry, ValueError for a name given twice."""
    match found:
        case Registry():
            return found
        case StepRegistry():
            return Registry(steps=found)
        case Pipeline():
            return Registry([found])
        case str() | bytes():
            raise TypeError
    pipelines = list(found)
    if not pipelines or not all(isinstance(each, Pipeline) for each in pipelines):
        raise TypeError
    return Registry(pipelines)
