"""Who is counted, and where."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tailrace.bus.model.counters import Counters
from tailrace.gateway.http.problems import ProblemError
from tailrace.gateway.limits.addresses import client_address
from tailrace.gateway.limits.connections import Client, ConnectionLimits, Connections

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.1", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "unknown"),
        (None, [], "unknown"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:0db8:0001:0002"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("fd00::1", ["198.51.100.7"], "198.51.100.7"),
    ],
)
def test_an_address_is_what_the_last_trusted_proxy_saw(peer: str | None, forwarded: list[str], counted: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == counted


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7:555"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.0.0.2:80"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8:1:2:3:4:5:6]:555"], "2001:0db8:0001:0002"),
        ("10.0.0.1", ["2001:db8:1:2:3:4:5:6"], "2001:0db8:0001:0002"),
        ("10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
    ],
)
def test_attack_66_ports_and_mapped_addresses_are_seen_through(peer: str, forwarded: list[str], counted: str) -> None:
    """A socket for IPv4 and IPv6 shows IPv4 peers as mapped, and some proxies add the port."""
    assert client_address(peer, forwarded, PROXIES) == counted


def connections(total: int = 100, per_principal: int = 0, per_address: int = 0) -> Connections:
    return Connections(ConnectionLimits(total, per_principal, per_address), Counters())


def refusal(counted: Connections, client: Client) -> str:
    with pytest.raises(ProblemError) as refused:
        counted.check(client, {})
    assert "Retry-After" in refused.value.problem.headers
    return f"{refused.value.problem.status} {refused.value.problem.code}"


def test_each_limit_has_its_own_answer() -> None:
    ann, bob = Client("acme/ann", "192.0.2.1"), Client("acme/bob", "192.0.2.1")
    counted = connections(total=3, per_principal=1, per_address=2)
    counted.check(ann, {})
    counted.enter(ann)
    assert refusal(counted, ann) == "429 too_many_connections"
    counted.check(bob, {})
    counted.enter(bob)
    assert refusal(counted, Client("acme/eve", "192.0.2.1")) == "429 too_many_connections"
    counted.enter(Client("acme/eve", "192.0.2.2"))
    assert refusal(counted, Client("acme/joe", "192.0.2.3")) == "503 gateway_full"


def test_who_leaves_makes_room_and_leaves_nothing_behind() -> None:
    ann = Client("acme/ann", "192.0.2.1")
    counted = connections(per_principal=1, per_address=1)
    for _ in range(3):
        counted.check(ann, {})
        counted.enter(ann)
        counted.leave(ann)
    assert counted.total == 0
    assert not counted.by_holder


def test_without_credentials_only_the_process_is_bounded() -> None:
    counted = connections(total=2, per_principal=1, per_address=1)
    counted.enter(Client())
    counted.check(Client(), {})
    counted.enter(Client())
    assert refusal(counted, Client()) == "503 gateway_full"
