from __future__ import annotations

import inspect
from typing import Any

import orjson
import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from tailrace import bus
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import Problem, ProblemError, problem_of
from tailrace.gateway.http.schemas import ProblemDetails, Submit

ERRORS: list[tuple[bus.BusError, int, str, str | None]] = [
    (bus.InvalidInputError("queue", "no"), 400, "invalid_input", "queue"),
    (bus.InvalidCursorError("after", "no"), 400, "invalid_cursor", "after"),
    (bus.InvalidExecutionIdError("execution_id", "no"), 400, "invalid_execution_id", "execution_id"),
    (bus.InvalidEventError("type", "no"), 400, "invalid_event", "type"),
    (bus.EventTooLargeError(300, 200), 413, "event_too_large", "data"),
    (bus.ExecutionUnknownError("a"), 404, "execution_unknown", None),
    (bus.ExecutionExistsError("a"), 409, "execution_exists", "execution_id"),
    (bus.TenantMismatchError("a", "acme"), 409, "execution_exists", "execution_id"),
    (bus.ConcurrencyConflictError("k", "a"), 409, "concurrency_conflict", "concurrency_key"),
    (bus.QueueFullError("default", 7), 503, "queue_full", None),
    (bus.ExecutionClosedError("a", "5-5"), 409, "execution_closed", None),
    (bus.FenceStaleError("a"), 409, "execution_held", None),
    (bus.LeaseHeldError("a", "b"), 409, "execution_held", None),
    (bus.LeaseLostError("a"), 409, "execution_held", None),
    (bus.TransitionRefusedError("a", "cancelling", "execution.paused"), 409, "transition_refused", None),
    (bus.ExecutionNotEndedError("a", "running"), 409, "execution_not_ended", None),
    (bus.ExecutionFailedError("a", {"reason": "exception"}), 500, "execution_failed", None),
    (bus.ExecutionEndedError("a", None), 500, "execution_failed", None),
    (bus.ExecutionCancelledError("a", {}), 409, "execution_cancelled", None),
    (bus.ExecutionTimedOutError("a", {}), 504, "execution_timed_out", None),
    (bus.ResultLostError("a"), 410, "result_lost", None),
    (bus.ControlTimeoutError("a", "5-5", 2.0), 504, "control_timeout", None),
    (bus.LogExhaustedError("no id left"), 409, "append_refused", None),
    (bus.AppendRefusedError("no"), 409, "append_refused", None),
    (bus.ReplyError("WRONGTYPE Operation against a key"), 409, "not_a_log", None),
    (bus.ReplyError("OOM command not allowed"), 503, "bus_unavailable", None),
    (bus.ConnectionLostError("gone"), 503, "bus_unavailable", None),
    (bus.NotReplicatedError("0 of 1"), 503, "bus_unavailable", None),
    (bus.BusUnavailableError("away"), 503, "bus_unavailable", None),
    (bus.PublishFailedError("a", "away", 3), 503, "bus_unavailable", None),
    (bus.BusClosedError("closed"), 503, "shutting_down", None),
]


@pytest.mark.parametrize(("error", "status", "code", "field"), ERRORS, ids=[type(each[0]).__name__ for each in ERRORS])
def test_every_error_of_the_bus_has_its_problem(error: bus.BusError, status: int, code: str, field: str | None) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code, problem.field) == (status, code, field)
    assert (problem.headers.get("Retry-After") is not None) == (status == 503)


def test_no_error_of_the_bus_is_forgotten_in_the_list_above() -> None:
    kinds = {
        kind for _, kind in inspect.getmembers(bus.errors, inspect.isclass) if kind.__module__ == "tailrace.bus.errors"
    }
    bases = {bus.errors.TailraceError, bus.errors.BusError}
    # Raised when a bus is opened, by handlers in a worker, or by what no route does: no request meets them.
    elsewhere = {
        bus.errors.LibraryIncompatibleError,
        bus.errors.EmbeddedServerError,
        bus.errors.DeadLetterUnknownError,
        bus.errors.NotOrphanedError,
    } | {kind for kind in kinds if issubclass(kind, bus.errors.BookmarkError)}
    assert kinds - bases - elsewhere == {type(error) for error, *_ in ERRORS}


def test_a_problem_is_rendered_as_rfc_9457_says() -> None:
    response = problem_of(bus.EventTooLargeError(300, 200)).response()
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    body = orjson.loads(response.body)
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["status"] == 413
    assert (body["size_bytes"], body["limit_bytes"]) == (300, 200)
    ProblemDetails.model_validate(body)


def test_the_inside_of_the_network_is_not_told_to_clients() -> None:
    problem = problem_of(bus.BusUnavailableError("Error 111 connecting to 10.0.0.7:6379"))
    assert "10.0.0.7" not in orjson.dumps(problem.members()).decode()


def test_validation_lists_every_field_without_its_value() -> None:
    with pytest.raises(ValidationError) as refusal:
        Submit.model_validate({"pipeline": "SECRET", "input": [], "surplus": 1})
    problem = problem_of(refusal.value)
    assert (problem.status, problem.code) == (422, "invalid_request")
    assert [error["field"] for error in problem.more["errors"]] == ["pipeline", "input", "surplus"]
    assert "SECRET" not in str(problem.members())


def test_a_field_is_named_as_the_client_knows_it() -> None:
    complaint = {"loc": ("body", "input", "files", 3), "type": "x", "msg": "no"}
    assert problem_of(RequestValidationError([complaint])).field == "input.files.3"


def test_a_thousand_complaints_make_a_short_answer() -> None:
    complaints: list[Any] = [{"loc": ("body", f"f{n}"), "type": "x", "msg": "no"} for n in range(1000)]
    problem = problem_of(RequestValidationError(complaints))
    assert len(problem.more["errors"]) == 20
    assert problem.detail.endswith("and 997 more")


def test_the_routers_own_refusals_keep_their_headers() -> None:
    problem = problem_of(HTTPException(405, headers={"Allow": "GET"}))
    assert (problem.code, problem.headers["Allow"]) == ("method_not_allowed", "GET")
    assert problem_of(HTTPException(404)).code == "not_found"


def test_what_nobody_foresaw_is_not_dressed_up_as_a_problem() -> None:
    with pytest.raises(KeyError):
        problem_of(KeyError("x"))


def test_a_routes_own_problem_is_passed_on() -> None:
    problem = Problem(418, "teapot", "short and stout")
    assert problem_of(ProblemError(problem)) is problem


def test_documented_problems_have_an_example_each() -> None:
    told = problems(400, 404, 406, 408, 409, 413, 415, 422, 503)
    assert told.pop("4XX")["content"]["application/problem+json"]["example"]["status"] == 400
    for status, response in told.items():
        assert response["content"]["application/problem+json"]["example"]["status"] == status
