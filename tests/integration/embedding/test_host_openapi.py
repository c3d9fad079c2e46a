"""The OpenAPI document of an application that contains our routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from fastapi import FastAPI
from openapi_spec_validator import validate
from pydantic import BaseModel

from tailrace import Gateway

NOWHERE: Final = "redis://127.0.0.1:1"


class Order(BaseModel):
    number: int


def document(groups: set[str] | None) -> dict[str, Any]:
    gateway = Gateway(NOWHERE) if groups is None else Gateway(NOWHERE, routes=groups)
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router, prefix="/live")

    @app.post("/orders")
    async def order(given: Order) -> Order:
        return given

    return app.openapi()


def operations(shown: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, ways in shown["paths"].items():
        if path.startswith("/live/v1"):
            yield from ((f"{method.upper()} {path}", operation) for method, operation in ways.items())


@pytest.mark.parametrize(
    "groups", [None, {"events"}, {"control"}, {"events", "control"}], ids=["all", "events", "control", "both"]
)
def test_the_document_is_valid_whichever_routes_are_taken(groups: set[str] | None) -> None:
    shown = document(groups)
    validate(shown)
    assert "ProblemDetails" in shown["components"]["schemas"]


def test_each_operation_says_how_it_asks_for_a_credential_and_answers_in_our_form() -> None:
    shown = document(None)
    assert shown["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    found = list(operations(shown))
    assert len(found) > 10
    assert [place for place, operation in found if operation.get("security") != [{"bearer": []}]] == []
    assert [place for place, operation in found if "HTTPValidationError" in str(operation["responses"])] == []
    # The application's own stay as they are.
    assert "HTTPValidationError" in str(shown["paths"]["/orders"]["post"]["responses"])
    assert "security" not in shown["paths"]["/orders"]["post"]


def test_each_parameter_has_a_description_and_an_example() -> None:
    lacking = [
        f"{place}: {parameter['name']}"
        for place, operation in operations(document(None))
        for parameter in operation.get("parameters", ())
        if not parameter.get("description") or not has_example(parameter)
    ]
    assert lacking == []


def has_example(parameter: dict[str, Any]) -> bool:
    schema = parameter["schema"]
    shown = str(schema)
    spelled = "enum" in shown or "$ref" in shown or "const" in shown or "'boolean'" in shown
    return spelled or bool({"example", "examples"} & {*parameter, *schema})
