"""Bounds of what clients may ask for. Those for each principal and address hold where credentials are asked for."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from tailrace.gateway.limits.sockets import MAX_SUBSCRIPTIONS

Network = IPv4Network | IPv6Network


class LimitSettings(BaseSettings):
    """0 is no limit, save for ``max_connections``."""

    max_connections: int = Field(50_000, ge=1, description="live streams and sockets of this process")
    max_connections_per_principal: int = Field(1000, ge=0, description="the same of one subject, over all gateways")
    max_connections_per_ip: int = Field(1000, ge=0, description="the same of one address, over all gateways")
    max_subscriptions: int = Field(MAX_SUBSCRIPTIONS, ge=1, le=10_000, description="executions of one socket")
    requests_per_second: float = Field(100.0, ge=0, description="of one subject, over all gateways")
    requests_burst: int = Field(500, ge=1, description="of them at once")
    events_per_second: float = Field(5000.0, ge=0, description="published by one subject, over all gateways")
    events_burst: int = Field(20_000, ge=1, description="of them at once")
    tenant_executions_per_hour: int = Field(100_000, ge=0, description="submitted or begun over HTTP by one tenant")
    tenant_bytes_per_hour: int = Field(
        4 * 1024**3, ge=0, description="of inputs and published events, over HTTP, of one tenant"
    )
    submit_queues: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="queues, by commas, that may be submitted to over HTTP; unset allows any"
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), description="networks, by commas, whose X-Forwarded-For tells the address of a client"
    )

    @field_validator("submit_queues", mode="before")
    @classmethod
    def _split_queues(cls, given: object) -> object:
        return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_networks(cls, given: object) -> object:
        if isinstance(given, str):
            return tuple(ip_network(each.strip()) for each in given.split(",") if each.strip())
        return given
