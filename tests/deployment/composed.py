"""compose.yaml without Docker: each service is a plain process of this machine, on a loopback address of its own.

Where a container would have its own files, addresses and names, paths and addresses are replaced in command lines,
healthchecks, environment and mounted configuration files. What is left of a service is run as it stands.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from tests.e2e.proxied.proxy import find
from tests.patience import patient
from tests.servers import find_binary

ROOT: Final = Path(__file__).parents[2]
_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{(\w+):-([^}]*)\})")
_SECONDS: Final = re.compile(r"(\d+)s")


def read_compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """With variables that are not given at their defaults."""
    composed: dict[str, Any] = _interpolated(yaml.safe_load((ROOT / "compose.yaml").read_text()), variables or {})
    return composed


def seconds_of(given: str) -> float:
    found = _SECONDS.fullmatch(given)
    assert found is not None, given
    return float(found[1])


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(lambda found: "$" if found[1] else variables.get(found[2], found[3]), value)
        case dict():
            return {key: _interpolated(each, variables) for key, each in value.items()}
        case list():
            return [_interpolated(each, variables) for each in value]
        case _:
            return value


class Service:
    def __init__(self, name: str, given: Mapping[str, Any], composed: Composed) -> None:
        self.name = name
        self.given = given
        self.ip = composed.ips[name]
        self._composed = composed
        self._paths = self._mounts()
        self._output = composed.folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def start(self) -> None:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [self.here(word) for word in (*self.given.get("entrypoint", ()), *self.given.get("command", ()))],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def await_healthy(self) -> None:
        check = self.given["healthcheck"]
        kind, *test = check["test"]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        allowed = seconds_of(check["start_period"]) + check["retries"] * seconds_of(check["interval"])
        deadline = time.monotonic() + patient(allowed)
        while True:
            done = subprocess.run(
                [self.here(word) for word in command],
                env=self._environment(),
                capture_output=True,
                timeout=patient(seconds_of(check["timeout"])),
                check=False,
            )
            if done.returncode == 0:
                return
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.said}"
            assert time.monotonic() < deadline, f"{self.name} is not healthy: {done.stderr!r}\n{self.said}"
            time.sleep(0.1)

    def await_completed(self) -> None:
        code = self.process.wait(patient(60))
        assert code == 0, f"{self.name} ended with {code}:\n{self.said}"

    def stop(self) -> int:
        """Stop it as Compose does, and return its exit code. Raises AssertionError beyond the grace period."""
        self.process.send_signal(signal.Signals[self.given.get("stop_signal", "SIGTERM")])
        try:
            return self.process.wait(seconds_of(self.given["stop_grace_period"]))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within its grace period:\n{self.said}") from None

    def kill(self) -> None:
        if self._process is not None:
            # What it started as well.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def here(self, text: str) -> str:
        """What means the same outside of a container."""
        # In one go: the paths that come of it contain such paths again.
        inside = "|".join(re.escape(path) for path in sorted(self._paths, key=len, reverse=True))
        text = re.sub(rf"(?<![\w./-])({inside})(?![\w.-])", lambda found: str(self._paths[found[1]]), text)
        for name, ip in self._composed.ips.items():
            text = re.sub(rf"\b{name}(?=[: ]\d)", ip, text)
        text = re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)\b", self.ip, text)
        return re.sub(r"\b(bind |listen )(:?)(?=\d+\b(?!\.))", rf"\g<1>{self.ip}:", text.replace("bind :", "bind "))

    def _environment(self) -> dict[str, str]:
        own = {name: self.here(value) for name, value in self.given.get("environment", {}).items()}
        return {"PATH": f"{self._composed.programs}:/usr/bin:/bin", **own}

    def _mounts(self) -> dict[str, Path]:
        """Folders and files inside, and where they are here: volumes as folders, configuration as copies."""
        paths = dict.fromkeys(self.given["tmpfs"], self._composed.folder / self.name / "tmp")
        for path in paths.values():
            path.mkdir(parents=True)
        for mount in self.given.get("volumes", ()):
            source, inside, *_ = mount.split(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{self.name} mounts {source}, which is not there"
                paths[inside] = self._composed.folder / self.name / Path(inside).name
            else:
                paths[inside] = self._composed.folder / "volumes" / source
                paths[inside].mkdir(parents=True, exist_ok=True)
        self._paths = paths
        for mount in self.given.get("volumes", ()):
            source, inside, *_ = mount.split(":")
            if (ROOT / source).is_file() and source.startswith("./"):
                paths[inside].parent.mkdir(exist_ok=True)
                text = self.here((ROOT / source).read_text())
                # A container's connections come from its own address as well.
                paths[inside].write_text(re.sub(r"(?m)^bind (\S+)$", r"bind \1\nbind-source-addr \1", text))
        return paths


class Composed:
    """The services without a profile, or with those of ``profiles``."""

    def __init__(self, folder: Path, *, profiles: frozenset[str] = frozenset(), **variables: str) -> None:
        self.folder = folder
        given = {
            name: service
            for name, service in read_compose(variables)["services"].items()
            if not service.get("profiles") or profiles & set(service["profiles"])
        }
        # A whole 127.x.y is ours: tests that run beside this one have another.
        part = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}"
        self.ips = {name: f"{part}.{number}" for number, name in enumerate(given, start=2)}
        self.programs = folder / "programs"
        self._install_programs()
        self._started: list[str] = []
        self.services = {name: Service(name, service, self) for name, service in given.items()}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._kill)
            for name in self.services:
                self._start(name)
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def stop(self) -> dict[str, int]:
        """Those that depend on others first; gives the exit code of each."""
        return {
            name: self.services[name].stop()
            for name in reversed(self._started)
            if self.services[name].process.poll() is None
        }

    def _start(self, name: str) -> None:
        """After all that it waits for."""
        if name in self._started:
            return
        service = self.services[name]
        for other, condition in service.given.get("depends_on", {}).items():
            if other not in self.services:
                assert not condition.get("required", True), f"{name} waits for {other}, which is not started"
                continue
            self._start(other)
            if condition["condition"] == "service_completed_successfully":
                self.services[other].await_completed()
            else:
                assert condition["condition"] == "service_healthy", condition
                self.services[other].await_healthy()
        service.start()
        self._started.append(name)

    def _install_programs(self) -> None:
        self.programs.mkdir()
        found = {
            "python": sys.executable,
            "tailrace": Path(sys.executable).with_name("tailrace"),
            "valkey-server": find_binary("valkey"),
            "valkey-cli": find("redis-cli", "redis-tools"),
            "haproxy": find("haproxy", "haproxy"),
            "nginx": find("nginx", "nginx-light"),
            "wget": find("wget", "wget"),
        }
        for name, path in found.items():
            # Not links: the interpreter finds its environment by its own path.
            script = self.programs / name
            script.write_text(f'#!/bin/sh\nexec {path} "$@"\n')
            script.chmod(0o755)
        # What Docker's DNS tells.
        names = "".join(f"{name}) echo {ip} ;;\n" for name, ip in self.ips.items())
        (self.programs / "getent").write_text(f'#!/bin/sh\ncase "$2" in\n{names}esac\n')
        (self.programs / "getent").chmod(0o755)

    def _kill(self) -> None:
        for service in self.services.values():
            service.kill()
