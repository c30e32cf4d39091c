"""The manifests for Kubernetes, as kustomize builds them: their schemas, and what an operator would trip over."""

from __future__ import annotations

import copy
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import custom_resources
from generated_pages import prometheus_rule
from gristmill.settings import variable
from gristmill_worker.settings import ServerSettings
from manifests import COMPOSE, Pod, build, pods_of

KUBERNETES = COMPOSE / "kubernetes"
#: The oldest that is still looked after, and the newest that the package knows.
VERSIONS = ("1.33", kubernetes_validate.latest_version())
KINDS = ("base", "gpu", "gpu-by-redis", "trial")


_contents = cache(kubernetes_validate.utils.schema_contents)


@cache
def _objects(kind: str, scratch: Path) -> list[dict[str, Any]]:
    folder = scratch / "kubernetes"
    if not folder.exists():
        shutil.copytree(KUBERNETES, folder)
        example = (folder / "overlays/trial/secrets.env.example").read_text("utf-8")
        (folder / "overlays/trial/secrets.env").write_text(example.replace("=\n", "=0123456789abcdef\n"))
        (folder / "overlays/trial/keys").write_text("0123456789abcdef\n")
        shutil.copytree(folder / "overlays/gpu", folder / "overlays/gpu-by-redis")
        overlay = folder / "overlays/gpu-by-redis/kustomization.yaml"
        text = overlay.read_text("utf-8").replace(
            "components/keda\n", "components/keda\n  - ../../components/keda-redis\n"
        )
        overlay.write_text(text.replace("metadata.url", "metadata.address"))
    return build(folder / ("base" if kind == "base" else f"overlays/{kind}"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests")


@pytest.fixture(params=KINDS)
def objects(request: pytest.FixtureRequest, scratch: Path) -> list[dict[str, Any]]:
    return copy.deepcopy(_objects(request.param, scratch))


def test_every_object_is_what_kubernetes_keda_and_prometheus_define(
    objects: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert objects
    # Else it reads the definitions of all of Kubernetes for each object anew.
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", _contents)
    for each in objects:
        if each["apiVersion"].startswith(("keda.sh/", "monitoring.coreos.com/")):
            assert custom_resources.faults_of(each) == [], each["metadata"]["name"]
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(each, version, strict=True)


def test_a_wrong_field_of_a_custom_resource_is_found(scratch: Path) -> None:
    (scaled,) = of_kind("ScaledObject", copy.deepcopy(_objects("gpu", scratch)))
    scaled["spec"]["maxReplicas"] = 4
    scaled["spec"]["pollingInterval"] = "15s"
    assert {fault.split(":")[0] for fault in custom_resources.faults_of(scaled)} == {"$.spec", "$.spec.pollingInterval"}


def test_every_pod_keeps_to_the_restricted_standard_and_its_root_is_read_only(objects: list[dict[str, Any]]) -> None:
    for pod in pods_of(objects):
        whole, own = pod.spec["securityContext"], pod.container["securityContext"]
        assert whole["runAsNonRoot"], pod.name
        assert whole["runAsUser"] > 0, pod.name
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys(), pod.name
        assert all({"persistentVolumeClaim", "emptyDir", "secret"} & volume.keys() for volume in pod.spec["volumes"])
        assert {"mountPath": "/tmp", "name": "tmp"} in pod.container["volumeMounts"], pod.name


def test_every_pod_has_probes_requests_and_a_limit_of_memory(objects: list[dict[str, Any]]) -> None:
    for pod in pods_of(objects):
        assert {"livenessProbe", "readinessProbe"} <= pod.container.keys(), pod.name
        assert pod.container["resources"]["requests"].keys() == {"cpu", "memory"}, pod.name
        assert "memory" in pod.container["resources"]["limits"], pod.name


def test_no_service_of_kubernetes_writes_settings_of_ours(objects: list[dict[str, Any]]) -> None:
    # A Service called gristmill-serve would be GRISTMILL_SERVE_PORT=tcp://… in every pod of its namespace.
    assert variable("serve_port") == "GRISTMILL_SERVE_PORT"
    assert [pod.name for pod in pods_of(objects) if pod.spec["enableServiceLinks"] is not False] == []


def test_pods_of_ours_are_given_settings_that_exist_and_no_secret_in_the_open(objects: list[dict[str, Any]]) -> None:
    known = {variable(name) for name in ServerSettings.model_fields}
    (settings,) = [each["data"] for each in of_kind("ConfigMap", objects)]
    assert settings.keys() <= known
    secret = {variable(name) for name in ("redis_url", "qdrant_api_key")}
    assert not secret & settings.keys()
    for pod in ours(objects):
        assert pod.environment.keys() <= known, pod.name
        assert all("secretKeyRef" in pod.environment[name] for name in secret & pod.environment.keys()), pod.name


def test_a_worker_drains_before_it_is_killed_and_is_probed_by_its_heartbeat(objects: list[dict[str, Any]]) -> None:
    (worker,) = [pod for pod in ours(objects) if pod.name == "gristmill-worker"]
    (settings,) = [each["data"] for each in of_kind("ConfigMap", objects)]
    assert worker.spec["terminationGracePeriodSeconds"] >= float(settings["GRISTMILL_DRAIN_TIMEOUT_S"]) + 10
    probed = {name: worker.container[name]["exec"]["command"] for name in worker.container if name.endswith("Probe")}
    assert probed == {
        "startupProbe": ["gristmill", "health", "--live"],
        "livenessProbe": ["gristmill", "health", "--live"],
        "readinessProbe": ["gristmill", "health", "--ready"],
    }


def test_what_selects_selects_pods_that_there_are_and_ports_by_names_that_they_have(
    objects: list[dict[str, Any]],
) -> None:
    for each in objects:
        wanted = selector_of(each)
        if wanted is None:
            continue
        chosen = [pod for pod in pods_of(objects) if wanted.items() <= pod.labels.items()]
        assert len(chosen) == 1, each["metadata"]["name"]
        ports = {port["name"] for port in chosen[0].container["ports"]}
        named = {port for port in named_ports(each["spec"]) if isinstance(port, str)}
        assert named <= ports, each["metadata"]["name"]


def test_every_secret_and_key_that_a_pod_asks_for_is_one_that_the_examples_name(scratch: Path) -> None:
    trial = _objects("trial", scratch)
    there = {each["metadata"]["name"]: set(each["data"]) for each in of_kind("Secret", trial)}
    for kind in KINDS:
        for pod in pods_of(_objects(kind, scratch)):
            for source in pod.environment.values():
                if isinstance(source, dict):
                    assert source["secretKeyRef"]["key"] in there[source["secretKeyRef"]["name"]], pod.name
    (redis,) = of_kind("TriggerAuthentication", _objects("gpu-by-redis", scratch))
    assert all(each["key"] in there[each["name"]] for each in redis["spec"]["secretTargetRef"])


def test_keda_asks_for_the_model_that_the_worker_serves_in_the_namespace_that_it_is_in(scratch: Path) -> None:
    objects = _objects("gpu", scratch)
    (scaled,) = of_kind("ScaledObject", objects)
    (settings,) = [each["data"] for each in of_kind("ConfigMap", objects)]
    (trigger,) = scaled["spec"]["triggers"]
    model = settings["GRISTMILL_MODEL"]
    assert trigger["metadata"]["url"] == f"http://gristmill-scale.gristmill.svc:8080/scale?model={model}"
    (worker,) = [each for each in of_kind("Deployment", objects) if each["metadata"]["name"] == "gristmill-worker"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    # KEDA's to say.
    assert "replicas" not in worker["spec"]
    (by_list,) = of_kind("ScaledObject", _objects("gpu-by-redis", scratch))
    (trigger,) = by_list["spec"]["triggers"]
    assert trigger["metadata"]["address"] == "redis.gristmill.svc:6379"
    assert trigger["metadata"]["listName"].startswith("{gristmill}:seconds:")


def test_a_gpu_worker_has_one_gpu_and_no_other_is_kept_free_for_a_rollout(scratch: Path) -> None:
    (worker,) = [
        each for each in of_kind("Deployment", _objects("gpu", scratch)) if "worker" in each["metadata"]["name"]
    ]
    (pod,) = pods_of([worker])
    assert pod.container["image"] == "gristmill:cuda"
    assert pod.container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod.environment["GRISTMILL_DEVICE"] == "cuda"
    assert worker["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_nothing_but_an_overlay_names_a_namespace(scratch: Path) -> None:
    assert {each["metadata"].get("namespace") for each in _objects("base", scratch)} == {None}
    assert {each["metadata"]["namespace"] for each in _objects("gpu", scratch)} == {"gristmill"}


def test_the_prometheus_operator_gets_the_alerts_of_the_file_under_the_job_that_they_ask_for(scratch: Path) -> None:
    kept = (KUBERNETES / "components/monitoring/alerts.yaml").read_text("utf-8")
    assert kept == prometheus_rule(), "run: make docs"
    (monitor,) = of_kind("PodMonitor", _objects("gpu", scratch))
    (worker,) = [pod for pod in ours(_objects("gpu", scratch)) if pod.name == "gristmill-worker"]
    assert worker.labels[monitor["spec"]["jobLabel"]] == "gristmill"


def test_trial_and_compose_run_the_same_servers() -> None:
    composed = yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))["services"]
    for name in ("redis", "qdrant"):
        text = (KUBERNETES / f"overlays/trial/{name}.yaml").read_text("utf-8")
        assert f"image: {composed[name]['image']}\n" in text


def of_kind(kind: str, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def ours(objects: list[dict[str, Any]]) -> list[Pod]:
    return [pod for pod in pods_of(objects) if pod.name.startswith("gristmill-")]


def selector_of(thing: dict[str, Any]) -> dict[str, str] | None:
    """The labels by which an object chooses pods; None where it chooses none."""
    spec = thing.get("spec", {})
    found: Any = spec.get("podSelector", spec.get("selector"))
    return found.get("matchLabels", found) if isinstance(found, dict) else None


def named_ports(spec: dict[str, Any]) -> list[Any]:
    """Ports of a Service, of a policy's ingress, or of a monitor."""
    services = [port.get("targetPort") for port in spec.get("ports", ())]
    policies = [port["port"] for rule in spec.get("ingress", ()) for port in rule["ports"]]
    return services + policies + [each["port"] for each in spec.get("podMetricsEndpoints", ())]
