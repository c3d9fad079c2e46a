"""The address of a client, where proxies stand in between. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from tailrace.gateway.limits.settings import Network


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The last address that a trusted proxy saw.

    ``forwarded`` are the values of X-Forwarded-For. What stands further left, the client may have made up. IPv6
    clients count by their /64, which is what one of them is given.
    """
    address = peer or ""
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and _is_trusted(address, trusted):
        address = hops.pop()
    return _counted(address)


def waiting_address(peer: str | None, trusted: Sequence[Network]) -> str | None:
    """Under which address a connection counts that has shown no credential yet; None for a trusted proxy's."""
    return None if _is_trusted(peer or "", trusted) else _counted(peer or "")


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


def _counted(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:  # noqa: PLR2004 - of IP
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped is not None else ":".join(parsed.exploded.split(":")[:4])
