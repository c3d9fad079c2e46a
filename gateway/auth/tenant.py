"""Tenants, and which execution ids may be chosen in their name. Pure.

Execution ids are unique over all tenants, so a client that could choose any id would learn from a refusal that another
tenant has an execution of that name. An id that is chosen in a tenant's name therefore begins with it:
``acme__nightly-7``. Ids that are made here are random and need no such lead.
"""

from __future__ import annotations

from typing import Final

from tailrace.bus.model.submission import is_tenant

# A token with this tenant is good for all of them, and for executions without one.
ANY_TENANT: Final = "*"
SEPARATOR: Final = "__"


def tenant_in(execution_id: str) -> str | None:
    """The tenant in whose name an id was chosen; None for any other id."""
    lead, separator, rest = execution_id.partition(SEPARATOR)
    return lead if separator and rest and is_tenant(lead) else None
