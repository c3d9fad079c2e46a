"""compose.yaml: it is valid, hardened, and everything in it runs."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema
import pytest
import yaml

from tests.deployment.composed import ROOT, Composed, read_compose, seconds_of
from tests.e2e.docs_support_page import Page
from tests.integration.cli.processes import TAILRACE, call, wait_until
from tests.patience import patient

SCHEMA: Final = ROOT / "tests/deployment/compose_spec/compose-spec.json"
LONG_RUNNING: Final = ("valkey", "gateway-1", "gateway-2", "worker-1", "worker-2", "haproxy")


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """All of it, with nginx beside haproxy; at the end each service stops within its grace, and well."""
    with Composed(tmp_path_factory.mktemp("composed"), profiles=frozenset({"nginx"})) as started:
        for service in started.services.values():
            if "healthcheck" in service.given:
                service.await_healthy()
        yield started
        stopped = started.stop()
        assert set(stopped) == {*LONG_RUNNING, "nginx"}
        for name, code in stopped.items():
            assert code == 0, (name, started.services[name].said)


def test_it_is_valid_by_the_published_schema() -> None:
    given = yaml.safe_load((ROOT / "compose.yaml").read_text())
    # It spells the name of its draft with https.
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(given)


@pytest.mark.parametrize(("name", "service"), read_compose()["services"].items())
def test_every_service_is_hardened_and_bounded(name: str, service: dict[str, Any]) -> None:
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "inside" in service["networks"]
    if service["image"] == "tailrace":
        assert "USER 10001:10001" in (ROOT / "Dockerfile").read_text()
    else:
        uid, _, gid = service["user"].partition(":")
        assert int(uid) > 0
        assert int(gid) > 0
    if service["restart"] != "no":
        assert service["deploy"]["resources"]["limits"]["memory"]
    for port in service.get("ports", ()):
        # TLS ends in front of it; beyond this machine nobody is let in by accident.
        assert port.startswith("127.0.0.1:")
    for mount in service.get("volumes", ()):
        source, _, mode = mount.partition(":")
        assert not source.startswith("./") or (ROOT / source).exists()
        assert source != "secrets" or mode.endswith(":ro") or name == "setup"


@pytest.mark.parametrize("name", ["gateway-1", "gateway-2", "worker-1", "worker-2"])
def test_the_grace_is_longer_than_the_drain(name: str) -> None:
    service = read_compose()["services"][name]
    assert seconds_of(service["stop_grace_period"]) >= float(service["environment"]["TAILRACE_DRAIN_SECONDS"]) + 10


def test_there_are_the_profiles_that_the_head_of_the_file_names() -> None:
    services = read_compose()["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    assert profiles == {"nginx", "monitoring", "sentinel", "cluster"}
    assert {name for name, service in services.items() if not service.get("profiles")} == {"setup", *LONG_RUNNING}


@pytest.mark.parametrize(("language", "path"), [("haproxy", "haproxy/haproxy.cfg"), ("nginx", "nginx/nginx.conf")])
def test_the_proxies_are_configured_as_documented(language: str, path: str) -> None:
    """Apart from the addresses of the gateways, each documented line is there, in this order."""
    (documented,) = Page("docs/running.md", (ROOT / "docs/running.md").read_text()).blocks_of(language)
    ours = iter(line.strip() for line in (ROOT / "deploy" / path).read_text().splitlines())
    for line in documented.splitlines():
        if not re.search(r"127\.0\.0\.1:808[12]", line):
            assert any(each.startswith(line.strip()) for each in ours), f"{line!r} is missing in {path}"


def first_key(composed: Composed) -> str:
    found = re.search(r"The first API key, shown only now: (\S+)", composed.services["setup"].said)
    assert found is not None
    return found[1]


def front(composed: Composed) -> str:
    return f"http://{composed.ips['haproxy']}:8080"


def seen_by_the_printed_curl(composed: Composed) -> str:
    [curl] = re.findall(r"^curl .*$", composed.services["setup"].said, re.MULTILINE)
    command = curl.replace("http://localhost:8080", front(composed))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=patient(60), check=False)
    return done.stdout


def test_the_printed_curl_submits_a_document_and_watches_it(composed: Composed) -> None:
    seen = seen_by_the_printed_curl(composed)
    assert "event: execution.completed" in seen
    assert seen.count("event: step.completed") >= 3, seen


def url_for(profile: str) -> str:
    """The one that the head of the file names."""
    [url] = re.findall(rf"REDIS_URL='(redis\+{profile}://[^']*)'", (ROOT / "compose.yaml").read_text())
    return str(url)


def test_with_sentinels_a_document_runs_before_and_after_a_failover(tmp_path: Path) -> None:
    with Composed(tmp_path, profiles=frozenset({"sentinel"}), REDIS_URL=url_for("sentinel")) as composed:
        composed.services["haproxy"].await_healthy()
        assert "event: execution.completed" in seen_by_the_printed_curl(composed)
        composed.services["valkey"].kill()
        # Refused, until the replica is promoted.
        wait_until(lambda: "event: execution.completed" in seen_by_the_printed_curl(composed), seconds=40)


def test_on_a_cluster_a_document_runs(tmp_path: Path) -> None:
    with Composed(tmp_path, profiles=frozenset({"cluster"}), REDIS_URL=url_for("cluster")) as composed:
        composed.services["haproxy"].await_healthy()
        assert "event: execution.completed" in seen_by_the_printed_curl(composed)


def test_either_proxy_passes_requests_on(composed: Composed) -> None:
    headers = {"Authorization": f"Bearer {first_key(composed)}"}
    for proxy in ("haproxy", "nginx"):
        answer = httpx.get(f"http://{composed.ips[proxy]}:8080/v1/executions", headers=headers)
        assert answer.status_code == 200, proxy


def test_without_a_key_nobody_gets_in_and_metrics_take_that_of_prometheus(composed: Composed) -> None:
    assert httpx.get(f"{front(composed)}/v1/executions").status_code == 401
    key = (composed.folder / "volumes/secrets/metrics-key").read_text().strip()
    answer = httpx.get(f"{front(composed)}/metrics", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert httpx.get(f"http://{composed.ips['worker-1']}:9464/metrics").status_code == 200


def test_alerts_and_targets_name_what_there_is(composed: Composed) -> None:
    folder = ROOT / "deploy/prometheus"
    key = (composed.folder / "volumes/secrets/metrics-key").read_text().strip()
    gateway = httpx.get(f"{front(composed)}/metrics", headers={"Authorization": f"Bearer {key}"}).text
    worker = httpx.get(f"http://{composed.ips['worker-1']}:9464/metrics").text
    # Of several processes only.
    known = {"tailrace_process_deaths_total", *re.findall(r"^(tailrace_\w+)", gateway + worker, re.MULTILINE)}
    rules = yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]
    runbook = (ROOT / "docs/deploy.md").read_text()
    assert {rule["alert"] for rule in rules} == set(re.findall(r"^\| `(Tailrace\w+)` \|", runbook, re.MULTILINE))
    for rule in rules:
        assert set(re.findall(r"tailrace_\w+", rule["expr"])) <= known, rule["alert"]
    scraped = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    for target in itertools.chain.from_iterable(each["static_configs"][0]["targets"] for each in scraped):
        assert target.rpartition(":")[0] in read_compose()["services"]


def test_a_killed_gateway_takes_nothing_with_it_and_nobody_sees_an_error(composed: Composed) -> None:
    env = {"TAILRACE_TOKEN": first_key(composed), "TAILRACE_GATEWAY": front(composed)}
    given = json.dumps({"name": "mill.md", "content": "Water drives the mill. " * 4000})
    ids = [call("submit", "document", "--input", given, env=env).stdout.strip() for _ in range(4)]
    watching = [
        subprocess.Popen(
            [*TAILRACE, "tail", each, "--json"], env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
        )
        for each in ids
    ]
    composed.services["gateway-1"].process.send_signal(signal.SIGKILL)
    composed.services["gateway-1"].process.wait()
    headers = {"Authorization": f"Bearer {env['TAILRACE_TOKEN']}"}
    with httpx.Client(base_url=front(composed), headers=headers) as client:
        assert [client.get(f"/v1/executions/{ids[0]}").status_code for _ in range(100)] == [200] * 100
    with ThreadPoolExecutor() as threads:
        outputs = list(threads.map(lambda each: each.communicate(timeout=patient(60))[0], watching))
    assert [each.returncode for each in watching] == [0] * 4
    for each, output in zip(ids, outputs, strict=True):
        assert output == call("tail", each, "--json", env=env).stdout
        assert '"execution.completed"' in output
    # As "restart: unless-stopped" says.
    composed.services["gateway-1"].start()
    composed.services["gateway-1"].await_healthy()


def test_a_linter_has_nothing_to_say_about_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_images_packages_are_those_that_are_tested() -> None:
    tested = pins(ROOT / "requirements.lock")
    for lock in ("requirements.lock", "build.lock"):
        assert pins(ROOT / "deploy" / lock).items() <= tested.items()


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", lock.read_text(), re.MULTILINE))
