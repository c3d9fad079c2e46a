"""The one way into every route: ``access: ReadAccess`` asks who it is, what for, and whose execution.

    @router.get("/executions/{execution_id}/events")
    async def read_events(access: ReadAccess, execution_id: ExecutionId) -> Response: ...

A route with ``{execution_id}`` in its path is reached only by who covers that execution. One that takes ids elsewhere
calls ``await access.run(id)`` for each; one that lists executions filters them with ``access.principal``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from tailrace.bus import ExecutionUnknownError, InvalidInputError
from tailrace.bus.model.control_request import MAX_NAME_CHARS
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.state import State
from tailrace.bus.ownership.tenancy import claim
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.refusals import ForbiddenError, missing_scope
from tailrace.gateway.auth.scopes import Scope
from tailrace.gateway.auth.tenant import ANY_TENANT, SEPARATOR, tenant_in
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.limits.addresses import client_address
from tailrace.gateway.limits.connections import Client
from tailrace.gateway.presence.live_connections import ConnectionEnding, Kind, LiveConnection, Watching

_NO_CLIENT: Final = Client()
# What reads without lasting does not use up a ticket that is for one use.
_READING: Final = frozenset({"GET", "HEAD"})


class Access:
    """What one request, or one socket, may do."""

    __slots__ = ("_client", "gateway", "principal")

    def __init__(self, gateway: GatewayContext, principal: Principal, client: Client = _NO_CLIENT) -> None:
        self.principal = principal
        self.gateway = gateway
        self._client = client

    @property
    def tenant(self) -> str | None:
        """The tenant of the executions that it makes; None for no tenant."""
        return None if self.principal.tenant == ANY_TENANT else self.principal.tenant

    def check(self, scope: Scope) -> None:
        """Raises ForbiddenError, which tells nothing of any execution."""
        if scope not in self.principal.scopes:
            raise missing_scope(scope)

    def check_current(self) -> None:
        """For a request that waited before it answers. Raises UnauthenticatedError."""
        self.gateway.auth.check_current(self.principal)

    def check_all(self) -> None:
        """For what tells of all tenants at once. Raises ForbiddenError."""
        if not self.principal.covers_all:
            raise ForbiddenError("insufficient_scope", "this shows all tenants; it needs a token whose tenant is '*'")

    def check_unlimited(self) -> None:
        """For what is not of one execution. Raises ForbiddenError for who is limited to some, as by a ticket."""
        if self.principal.runs is not None:
            raise ForbiddenError("insufficient_scope", "this needs a credential that is not limited to some executions")

    async def run(self, execution_id: str, action: Scope = "read") -> None:
        """Make sure that it covers an execution, for what is to be done with it.

        Raises ExecutionUnknownError for another's, and in the same words for one that does not exist, before anything
        else can be wrong with the request. Raises InvalidExecutionIdError, BusUnavailableError.
        """
        check_execution_id(execution_id)
        if not (self.sees_all or await self._covers(execution_id, action, may_be_new=False)):
            raise ExecutionUnknownError(execution_id)

    @property
    def sees_all(self) -> bool:
        """Nothing is to be asked about an execution: it may be seen."""
        return self.principal.covers_all and self.gateway.authorize is None

    async def _covers(self, execution_id: str, action: Scope, *, may_be_new: bool) -> bool:
        principal, log = self.principal, self.gateway.bus.log
        if not principal.names(execution_id):
            return False
        if principal.tenant == ANY_TENANT and self.gateway.authorize is None:
            return True
        state, exists = await log.found(execution_id)
        if not exists and not may_be_new:
            return False
        return self.allows(execution_id, action)(state)

    def allows(self, execution_id: str, action: Scope = "read") -> Callable[[State | None], bool]:
        """Whether it covers an execution, by the state of it; the same as ``run``, for who reads the state anyway."""
        return lambda state: self.covers(_state_of(execution_id, state), action)

    def covers(self, state: State, action: Scope = "read") -> bool:
        """Whether it covers the execution of a state, as the application sees it, too, where that has a say."""
        principal, authorize = self.principal, self.gateway.authorize
        if not principal.covers(state.execution_id, state.tenant):
            return False
        return authorize is None or bool(authorize(principal, state, action))

    async def begin(self, execution_id: str) -> None:
        """Like ``run``, for a publisher that has something to publish: an execution without a tenant becomes its own.

        Raises ExecutionUnknownError where it may not choose that id, as if it were another's.
        """
        check_execution_id(execution_id)
        bus = self.gateway.bus
        if not self._may_begin(execution_id):
            allowed = await self._covers(execution_id, "publish", may_be_new=True)
        elif self.tenant is None:
            allowed = True
        else:
            live_seconds = bus.settings.retention.live_seconds
            owner = await claim(bus.commands, bus.keys, execution_id, self.tenant, live_seconds=live_seconds)
            allowed = owner == self.tenant
        if allowed and self.gateway.authorize is not None:
            allowed = await self._covers(execution_id, "publish", may_be_new=True)
        if not allowed:
            raise ExecutionUnknownError(execution_id)

    def _may_begin(self, execution_id: str) -> bool:
        principal = self.principal
        return principal.covers_all or (
            self.tenant is not None and principal.names(execution_id) and tenant_in(execution_id) == self.tenant
        )

    def check_new(self, execution_id: str, *, chosen: bool) -> None:
        """Make sure that an execution which it submits is its own, and that no refusal tells of another's.

        Raises ForbiddenError.
        """
        principal = self.principal
        if chosen and principal.tenant not in {ANY_TENANT, tenant_in(execution_id)}:
            detail = (
                f"an id with {SEPARATOR!r} belongs to the tenant whose name comes before it"
                if self.tenant is None
                else f"an execution id of tenant {self.tenant!r} must begin with '{self.tenant}{SEPARATOR}'"
            )
            raise ForbiddenError("execution_id_not_covered", f"{detail}; or leave it out", "execution_id")
        if not principal.names(execution_id):
            detail = "the token covers some executions only; choose an execution_id that it covers"
            raise ForbiddenError("execution_id_not_covered", detail, "execution_id")

    async def spend(self, events: int) -> None:
        """Count events to be published. Raises ProblemError (429)."""
        if self._client.account is not None:
            await self.gateway.rates.spend("events", self._client.account, events)

    @property
    def has_quotas(self) -> bool:
        return self._client.account is not None

    async def spend_quota(self, size_bytes: int, *, executions: int = 0) -> None:
        """Count what it puts into Redis in its tenant's name. Raises ProblemError (429)."""
        if self._client.account is not None:
            rates, tenant = self.gateway.rates, self.tenant or ""
            if executions:
                await rates.spend("executions", tenant, executions)
            if size_bytes:
                await rates.spend("bytes", tenant, size_bytes)

    async def spend_request(self) -> None:
        """Raises ProblemError (429)."""
        if self._client.account is not None:
            await self.gateway.rates.spend("requests", self._client.account)

    def asker(self, claimed: str | None) -> str | None:
        """Who asks, for all to see: as the credential says, or as claimed where none is asked for.

        Raises InvalidInputError.
        """
        if self.principal.credential == "none":
            return claimed
        if claimed is not None:
            raise InvalidInputError("by", "is taken from the credential; leave it out")
        return "".join(filter(str.isprintable, self.principal.subject))[:MAX_NAME_CHARS] or None

    async def enter(self) -> None:
        """Be let in for a stream or a socket that begins now: a ticket for one use is used up by it.

        Raises GatewayFullError (503), ProblemError (429), UnauthenticatedError (``ticket_used``).
        """
        connections = self.gateway.connections
        elsewhere = await self.gateway.presence.held_elsewhere(connections.holders(self._client))
        connections.check(self._client, elsewhere)
        await self.gateway.auth.tickets.use_up(self.principal)

    def register(self, kind: Kind, watching: Watching, end: Callable[[ConnectionEnding], None]) -> Registration:
        """Be a live connection from now on. ``end`` closes it when the credential ends, or an operator says so."""
        since_ms = time.time_ns() // 1_000_000
        connection = LiveConnection(kind, watching, self.principal, self._client.address, since_ms, end)
        return Registration(self.gateway, self._client, connection)

    async def renewed(self, token: str, executions: list[str]) -> Principal:
        """Whom a newer token speaks for: the same one, and for all that is being watched.

        Raises UnauthenticatedError, ForbiddenError.
        """
        principal = await self.gateway.auth.verify(token) if self.gateway.auth.required else self.principal
        if (principal.subject, principal.tenant) != (self.principal.subject, self.principal.tenant):
            raise ForbiddenError(
                "other_principal", "the token belongs to another principal; open another connection for it"
            )
        if executions and ("read" not in principal.scopes or not all(map(principal.names, executions))):
            raise ForbiddenError("insufficient_scope", "the token does not cover all that is subscribed here")
        return principal


class Registration:
    """A live connection's place: counted, and on a credential. ``leave`` exactly once."""

    __slots__ = ("_client", "_connection", "_gateway", "on_leave")

    def __init__(self, gateway: GatewayContext, client: Client, connection: LiveConnection) -> None:
        self._gateway = gateway
        self._client = client
        self._connection = connection
        self.on_leave: tuple[Callable[[], object], ...] = ()
        gateway.connections.enter(client)
        gateway.presence.connections.enter(connection)

    def renew(self, principal: Principal) -> None:
        self._gateway.presence.connections.renew(self._connection, principal)

    def leave(self) -> None:
        for leave in self.on_leave:
            leave()
        self._gateway.connections.leave(self._client)
        self._gateway.presence.connections.leave(self._connection)


class Requires(SecurityBase):
    """What a route asks for: all of these scopes, and the execution that its path names.

    OpenAPI documents of whatever application has the route show it as a bearer token, which is one way in.
    """

    def __init__(self, *scopes: Scope, opens: bool = False) -> None:
        """``opens`` is for a route that asks about the execution by itself, with ``Access.allows`` or ``begin``."""
        self.scopes = scopes
        self.opens = opens
        self.model = HTTPBearer(description="A JWT or an API key, or what the application authenticates by")
        self.scheme_name = "bearer"

    async def __call__(self, connection: HTTPConnection, gateway: CurrentGateway) -> Access:
        """Raises ProblemError (401, 403, 429), ExecutionUnknownError (404), and others for a malformed id."""
        access = await self.identify(connection, gateway)
        execution_id = connection.path_params.get("execution_id")
        if execution_id is not None and not self.opens:
            await access.run(execution_id, self.scopes[-1] if self.scopes else "read")
        return access

    async def identify(self, connection: HTTPConnection, gateway: GatewayContext) -> Access:
        """The same, for who looks at the execution later."""
        auth = gateway.auth
        principal = await auth.authenticate(connection)
        access = Access(gateway, principal, client_of(connection, gateway, principal.account))
        for scope in self.scopes:
            access.check(scope)
        await access.spend_request()
        if connection.scope.get("method", "GET") not in _READING:
            await auth.tickets.use_up(principal)
        return access


def requires(*scopes: Scope, opens: bool = False) -> Any:
    """Make a dependency, for ``Annotated[Access, …]``."""
    return Depends(Requires(*scopes, opens=opens))


async def everybody() -> None:
    """Stands in a route that asks for nothing, and says that this is meant."""


ReadAccess = Annotated[Access, requires("read")]
WatchAccess = Annotated[Access, requires("read", opens=True)]
PublishAccess = Annotated[Access, requires("publish", opens=True)]
ControlAccess = Annotated[Access, requires("control")]
SubmitAccess = Annotated[Access, requires("submit")]
AdminAccess = Annotated[Access, requires("admin")]
Everybody: Final = Depends(everybody)


def client_of(connection: HTTPConnection, gateway: GatewayContext, account: str | None) -> Client:
    """Whose limits a connection counts for; nobody's where no credentials are asked for."""
    if not gateway.auth.required:
        return _NO_CLIENT
    peer = connection.client.host if connection.client is not None else None
    forwarded = connection.headers.getlist("x-forwarded-for")
    return Client(account, client_address(peer, forwarded, gateway.settings.trusted_proxies))


def _state_of(execution_id: str, state: State | None) -> State:
    # A log without a state was written by a stranger, or its state was lost: then the id still says whose it is.
    return State(execution_id, "unknown", tenant=tenant_in(execution_id)) if state is None else state
