"""A real cluster and a real Sentinel, of Valkey's from the wheel, on free ports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.patience import patient
from tests.servers import RunningServer, free_port, spawn_server

READY_SECONDS = 30.0
NODE_OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0")


class Cluster:
    def __init__(self, nodes: list[RunningServer], primaries: int) -> None:
        self.nodes = nodes
        self.primaries = primaries

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def client(self, index: int) -> redis.Redis:
        return redis.Redis(port=self.nodes[index].port or 0, decode_responses=True)

    def owner(self, slot: int) -> int:
        """Index of the node that serves a slot."""
        for index, node in enumerate(self.nodes):
            if not node.running:
                continue
            with self.client(index) as client:
                for start, end, primary, *_ in client.execute_command("CLUSTER SLOTS", NEVER_DECODE=True):
                    if start <= slot <= end:
                        return [n.port for n in self.nodes].index(int(primary[1]))
        raise AssertionError(f"nobody serves slot {slot}")


def wait_until(what: str, holds: object) -> None:
    deadline = time.monotonic() + patient(READY_SECONDS)
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {READY_SECONDS} s: {what}"
        time.sleep(0.05)


@contextmanager
def cluster(directory: Path, *, primaries: int = 3, replicas: int = 0, full_coverage: bool = True) -> Iterator[Cluster]:
    """Start nodes, give out all slots, attach replicas, wait until every node says ok."""
    with ExitStack() as stack:
        nodes = []
        for number in range(primaries + replicas):
            folder = directory / f"node{number}"
            folder.mkdir()
            port = free_port()
            coverage = ("--cluster-require-full-coverage", "yes" if full_coverage else "no")
            options = (*NODE_OPTIONS, *coverage, "--cluster-port", str(free_port()))
            nodes.append(stack.enter_context(spawn_server("valkey", directory=folder, port=port, extra=options)))
        made = Cluster(nodes, primaries)
        first = made.client(0)
        share = 16384 // primaries
        for number in range(primaries):
            end = 16383 if number == primaries - 1 else (number + 1) * share - 1
            with made.client(number) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, end)
                bus_port = client.config_get("cluster-port")["cluster-port"]
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[number].port, bus_port)  # type: ignore[no-untyped-call]
        for number in range(primaries, primaries + replicas):
            with made.client(number) as client:
                bus_port = client.config_get("cluster-port")["cluster-port"]
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[number].port, bus_port)  # type: ignore[no-untyped-call]
        for number in range(primaries + replicas):
            with made.client(number) as client:
                wait_until(
                    "all nodes known", lambda c=client: c.cluster("info")["cluster_known_nodes"] == str(len(nodes))
                )
        for number in range(primaries, primaries + replicas):
            with made.client(number) as client, made.client(number - primaries) as primary:
                wait_until("replication", lambda c=client, p=primary: _replicate(c, str(p.cluster("myid"))))
        for number in range(len(nodes)):
            with made.client(number) as client:
                wait_until("the cluster is ok", lambda c=client: c.cluster("info")["cluster_state"] == "ok")
        for number in range(primaries, primaries + replicas):
            with made.client(number) as client:
                wait_until(
                    "the replica is in step", lambda c=client: c.info("replication")["master_link_status"] == "up"
                )
        first.close()
        yield made


def _replicate(client: redis.Redis, primary: str) -> bool:
    try:
        client.execute_command("CLUSTER", "REPLICATE", primary)  # type: ignore[no-untyped-call]
    except redis.ResponseError:
        return False
    return True
