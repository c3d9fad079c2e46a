"""Which changes a viewer sees: those that its credential covers, and of them what it asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tailrace.bus.activity import Change
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.filter import Filter, is_wanted_type
from tailrace.bus.model.state import State
from tailrace.gateway.auth.principal import Authorize, Principal
from tailrace.gateway.wire.activity import change_of


@dataclass(frozen=True, slots=True)
class ActivityFilter(Filter):
    """``viewer`` None covers everything; ``pipeline`` and ``tenant`` None mean any.

    ``authorize`` is the application's own say, by what a change tells of the execution's state.
    """

    viewer: Principal | None = None
    authorize: Authorize | None = None
    pipeline: str | None = None
    tenant: str | None = None

    def wants(self, entry: Entry) -> bool:
        change = change_of(entry)
        if change is None:
            return False
        if self.viewer is not None and not self.viewer.covers(change.execution_id, change.tenant):
            return False
        if self.viewer is not None and self.authorize is not None and not self._authorized(self.viewer, change):
            return False
        if self.pipeline is not None and change.pipeline != self.pipeline:
            return False
        if self.tenant is not None and change.tenant != self.tenant:
            return False
        return not self.types or is_wanted_type(self.types, change.type)

    def _authorized(self, viewer: Principal, change: Change) -> bool:
        state = State(
            change.execution_id, "unknown", pipeline=change.pipeline, tenant=change.tenant, labels=change.labels
        )
        return self.authorize is None or bool(self.authorize(viewer, state, "read"))


def viewer_of(principal: Principal, authorize: Authorize | None = None) -> Principal | None:
    """Who sees what, and nothing else of it: viewers who see the same share their frames.

    An application that has a say may look at all of a principal.
    """
    if authorize is not None:
        return principal
    if principal.covers_all:
        return None
    return Principal("", principal.tenant, frozenset(), principal.runs)
