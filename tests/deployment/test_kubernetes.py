"""deploy/kubernetes: valid by Kubernetes' own schemas, hardened, and fit for what gateways and workers do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tailrace.bus import BusSettings
from tailrace.cli.variables import unknown
from tailrace.gateway.settings import GatewaySettings
from tailrace.workers import WorkerSettings
from tests.deployment.composed import ROOT

FOLDER: Final = ROOT / "deploy/kubernetes"
KUSTOMIZATION: Final = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
# One that clusters have had for some time, and the newest that there is a schema of.
VERSIONS: Final = ("1.29", kubernetes_validate.latest_version())


def objects() -> Iterator[dict[str, Any]]:
    for name in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text())


def named(given: dict[str, Any]) -> str:
    return f"{given['kind']} {given['metadata']['name']}"


DEPLOYMENTS: Final = [each for each in objects() if each["kind"] == "Deployment"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("given", list(objects()), ids=named)
def test_every_object_is_valid_by_the_published_schema(given: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(given, version, strict=True)


def test_every_file_is_part_of_it() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}


def test_everything_selects_pods_that_there_are() -> None:
    labels = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in DEPLOYMENTS}
    for each in objects():
        spec = each.get("spec", {})
        match each["kind"]:
            case "Service":
                selected = spec["selector"]
            case "Deployment" | "PodDisruptionBudget":
                selected = spec["selector"]["matchLabels"]
            case "NetworkPolicy":
                selected = spec["podSelector"]["matchLabels"]
            case "HorizontalPodAutoscaler":
                selected = labels[spec["scaleTargetRef"]["name"]]
            case _:
                continue
        assert selected == labels[each["metadata"]["name"]], named(each)


@pytest.mark.parametrize("given", DEPLOYMENTS, ids=named)
def test_pods_are_hardened_and_have_longer_to_end_than_they_drain(given: dict[str, Any]) -> None:
    pod = given["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    before = float(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [0, 0])[1])
    # What both give to the rest: see docs/running.md, Draining.
    assert pod["terminationGracePeriodSeconds"] >= before + float(env["TAILRACE_DRAIN_SECONDS"]) + 25


@pytest.mark.parametrize("given", DEPLOYMENTS, ids=named)
def test_settings_and_ports_are_those_of_the_code(given: dict[str, Any]) -> None:
    [container] = given["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    models = (BusSettings, GatewaySettings if container["args"] == ["gateway"] else WorkerSettings)
    known = [f"TAILRACE_{field.upper()}" for model in models for field in model.model_fields]
    assert unknown(env, known) == []
    port = env.get("TAILRACE_PORT") or env["TAILRACE_METRICS_PORT"]
    assert [each["containerPort"] for each in container["ports"]] == [int(port or 0)]
