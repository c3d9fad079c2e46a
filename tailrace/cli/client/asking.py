"""One question to any of several gateways: the next is asked where one cannot be reached, or cannot just now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
from pydantic import BaseModel

from tailrace.cli.client.watch import SILENCE_SECONDS, answer_of, problem_of
from tailrace.cli.errors import GatewayRequestError
from tailrace.cli.exit_codes import ExitCode

_CODES: Final[dict[int, ExitCode]] = {
    httpx.codes.BAD_REQUEST: ExitCode.USAGE,
    httpx.codes.NOT_FOUND: ExitCode.UNKNOWN_EXECUTION,
    httpx.codes.CONFLICT: ExitCode.CONFLICT,
    httpx.codes.REQUEST_ENTITY_TOO_LARGE: ExitCode.USAGE,
    httpx.codes.UNPROCESSABLE_ENTITY: ExitCode.USAGE,
}
# Nothing of the request has reached anybody.
_NOT_ASKED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


async def ask(
    client: httpx.AsyncClient,
    gateways: Sequence[str],
    path: str,
    shape: type[BaseModel],
    *,
    method: str = "GET",
    params: Mapping[str, Any] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    wait_seconds: float = 0.0,
    once: bool = False,
) -> dict[str, Any]:
    """The JSON of the answer, which has this shape.

    ``once`` asks a second gateway only where the first has certainly heard nothing.

    Raises GatewayRequestError with the reason of the last one, and what it means as an exit code.
    """
    reason = ""
    for gateway in gateways:
        try:
            response = await client.request(
                method,
                f"{gateway}{path}",
                params=params,
                json=body,
                headers=headers,
                timeout=httpx.Timeout(SILENCE_SECONDS + wait_seconds, connect=5.0),
            )
        except httpx.TransportError as error:
            reason = f"{gateway}: {str(error) or type(error).__name__}"
            if once and not isinstance(error, _NOT_ASKED):
                raise GatewayRequestError(
                    f"{reason}; the request may have been carried out: check with 'tailrace show' before you repeat it"
                ) from None
            continue
        if response.is_success:
            return answer_of(gateway, response, shape)
        reason = f"{gateway}: {problem_of(response)}"
        if not response.is_server_error or once:
            raise GatewayRequestError(reason, _code_of(response))
    raise GatewayRequestError(
        f"no gateway answers ({reason}); check that a gateway is running there, or name another with --gateway"
    )


def _code_of(response: httpx.Response) -> ExitCode:
    if response.status_code == httpx.codes.NOT_FOUND and _problem_code(response) != "execution_unknown":
        # Not of ours, or older than this command: it knows no such path.
        return ExitCode.GATEWAY
    return _CODES.get(response.status_code, ExitCode.GATEWAY)


def _problem_code(response: httpx.Response) -> str | None:
    try:
        problem = response.json()
    except ValueError:
        return None
    code = problem.get("code") if isinstance(problem, dict) else None
    return code if isinstance(code, str) else None
