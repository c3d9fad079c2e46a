"""How credentials are shown, as OpenAPI says it."""

from __future__ import annotations

from typing import Any

from tailrace.gateway.auth.settings import AuthSettings


def with_security(document: dict[str, Any], settings: AuthSettings) -> dict[str, Any]:
    """Add the ways in, for every operation that may answer that none was taken."""
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A JWT, or an API key"},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "Of POST /v1/tickets"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": settings.auth_cookie, "description": "A JWT"},
    }
    document.setdefault("components", {})["securitySchemes"] = schemes
    operations = (operation for path in document["paths"].values() for operation in path.values())
    for operation in operations:
        if "401" in operation["responses"]:
            operation["security"] = [{name: []} for name in schemes]
    return document
