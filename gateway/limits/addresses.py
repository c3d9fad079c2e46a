"""The address of a client, where proxies stand in between. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from tailrace.gateway.limits.settings import Network


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The last address that a trusted proxy saw.

    ``forwarded`` are the values of X-Forwarded-For. What stands further left, the client may have made up. IPv6
    clients count by their /64, which is what one of them is given.
    """
    address = peer or ""
    hops = [_without_port(hop.strip()) for value in forwarded for hop in value.split(",")]
    while hops and _is_trusted(address, trusted):
        address = hops.pop()
    return _counted(address)


def waiting_address(peer: str | None, trusted: Sequence[Network]) -> str | None:
    """Under which address a connection counts that has shown no credential yet; None for a trusted proxy's."""
    return None if _is_trusted(peer or "", trusted) else _counted(peer or "")


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = _parsed(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


def _counted(address: str) -> str:
    try:
        parsed = _parsed(address)
    except ValueError:
        return "unknown"
    return str(parsed) if isinstance(parsed, IPv4Address) else ":".join(parsed.exploded.split(":")[:4])


def _parsed(address: str) -> IPv4Address | IPv6Address:
    """An IPv4 address also where a socket for both kinds shows it as one of IPv6. Raises ValueError."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


def _without_port(hop: str) -> str:
    """Some proxies add the client's port: ``192.0.2.7:555``, ``[2001:db8::7]:555``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
