"""What a client may say on a socket, checked. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tailrace.bus.model.filter import Mode
from tailrace.gateway.errors import GatewayError
from tailrace.gateway.http import control_schemas as bodies

_MAX_SHOWN_CHARS: Final = 200

RequestId = Annotated[str, Field(min_length=1, max_length=64)] | Annotated[int, Field(ge=0, le=2**53 - 1)]


class OpError(GatewayError):
    """A frame that is no op; carries what to answer. ``id`` is the client's own, where it could be read."""

    def __init__(self, code: str, detail: str, *, field: str | None = None, id: RequestId | None = None) -> None:  # noqa: A002 - the wire's name
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.id = id


class _Op(BaseModel):
    # Unknown members are refused: a misspelt `from` would replay everything and say nothing.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    id: RequestId = Field(description="chosen by the client; the answer carries it")


class SubscribeOp(_Op):
    """Give me this execution's events, from there on."""

    op: Literal["subscribe"]
    execution: str
    from_: str | None = Field(
        None, alias="from", description="cursor of the last event already seen; `tail` for what comes; none for all"
    )
    types: list[str] | None = Field(None, max_length=32, description="exact types, or prefixes like `step.*`")
    step: str | None = None
    mode: Mode | None = Field(
        None, description="leave out events whose `meta.mode` is another; `debug` leaves out none"
    )
    coalesce_ms: int = Field(0, ge=0, le=1000, description="collect events for so long before they are sent")
    compress: bool = Field(False, description="compress its messages, where the socket was made so that it can")  # noqa: FBT003 - pydantic's default
    merge: Literal["tokens"] | None = Field(
        None, description="adjacent tokens of a step that are sent together come as one, with the id of the last"
    )


class UnsubscribeOp(_Op):
    op: Literal["unsubscribe"]
    execution: str


class PingOp(_Op):
    op: Literal["ping"]


class AuthOp(_Op):
    """Go on with a newer token of the same subject and tenant, which covers all that is subscribed."""

    op: Literal["auth"]
    token: str = Field(min_length=1, max_length=8192, repr=False)


class _Asks(_Op):
    """The outcome is an event of the execution, which carries ``request`` as the answer tells it."""

    execution: str


class CancelOp(_Asks, bodies.CancelBody):
    """Have it end in ``execution.cancelled``."""

    op: Literal["cancel"]


class PauseOp(_Asks, bodies.PauseBody):
    """Have it stand still where it next says something."""

    op: Literal["pause"]


class ResumeOp(_Asks, bodies.ResumeBody):
    """Have it go on."""

    op: Literal["resume"]


class SignalOp(_Asks, bodies.SignalBody):
    """Give it something that it waits for, or may come to wait for."""

    op: Literal["signal"]


Asks = CancelOp | PauseOp | ResumeOp | SignalOp
Op = SubscribeOp | UnsubscribeOp | PingOp | AuthOp | Asks
CLIENT_OP: Final[TypeAdapter[Op]] = TypeAdapter(Annotated[Op, Field(discriminator="op")])
_ID: Final[TypeAdapter[RequestId]] = TypeAdapter(RequestId, config=ConfigDict(strict=True))


def check_op(given: Any) -> Op:
    """Raises OpError that names the field."""
    if not isinstance(given, dict):
        raise OpError("invalid_frame", f"a frame is one object with an `op`, not {_kind(given)}")
    try:
        return CLIENT_OP.validate_python(given)
    except ValidationError as error:
        _refuse(given, error)


def _refuse(given: dict[Any, Any], error: ValidationError) -> NoReturn:
    complaint = error.errors(include_url=False, include_input=False)[0]
    try:
        request_id = _ID.validate_python(given.get("id"))
    except ValidationError:
        request_id = None
    match complaint["type"]:
        case "union_tag_not_found":
            raise OpError("missing_field", "a frame needs an 'op'", field="op", id=request_id)
        case "union_tag_invalid":
            expected = complaint.get("ctx", {}).get("expected_tags", "")
            raise OpError("unknown_op", f"expected one of {expected}", field="op", id=request_id)
    # The first part of the location is the op; of the id, the rest are the kinds that were tried.
    field = str(complaint["loc"][1])[:_MAX_SHOWN_CHARS]
    code = {"missing": "missing_field", "extra_forbidden": "unknown_field"}.get(complaint["type"], "invalid_field")
    raise OpError(code, complaint["msg"][:_MAX_SHOWN_CHARS], field=field, id=request_id)


def _kind(given: object) -> str:
    return {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}.get(type(given), "a number")
