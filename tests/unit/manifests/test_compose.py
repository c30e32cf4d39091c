"""The compose files, as Docker Compose itself reads them: what Gristmill relies on, and what keeps strangers out."""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

import pytest

from gristmill.settings import variable
from gristmill_worker.settings import ServerSettings
from manifests import COMPOSE, REPO, run_tool

FILES = ("compose.yaml", "compose.gpu.yaml", "compose.monitoring.yaml")
PASSWORDS = ("REDIS_PASSWORD", "QDRANT_API_KEY", "GRAFANA_PASSWORD")
SETTINGS = ServerSettings()


@functools.cache
def config(*files: str, without: str | None = None) -> dict[str, Any]:
    """The services of these files together, profiles included, by name. It checks them against the Compose specification."""
    given = {name: secrets.token_hex(8) for name in PASSWORDS if name != without}
    named = [word for name in files for word in ("-f", str(COMPOSE / name))]
    # No file of the developer's own.
    called = ["--env-file", os.devnull, *named, "--profile", "*", "config", "--format", "json"]
    services: dict[str, Any] = json.loads(run_tool("docker-compose", *called, environment=given))["services"]
    return services


@pytest.mark.parametrize("missing", PASSWORDS)
def test_without_a_password_nothing_starts_and_it_says_what_to_do(missing: str) -> None:
    with pytest.raises(AssertionError, match=rf"{missing}.*copy compose/.env.example to compose/.env"):
        config(*FILES, without=missing)


def test_the_example_of_an_environment_names_every_variable_that_must_be_given_and_no_password() -> None:
    text = (COMPOSE / ".env.example").read_text("utf-8")
    example = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert {name for name, value in example.items() if not value} == set(PASSWORDS)
    read = {name for file in FILES for name in re.findall(r"\$\{(\w+)", (COMPOSE / file).read_text("utf-8"))}
    assert example.keys() <= read
    optional = {"TORCH_INDEX", "PROMETHEUS_MEMORY", "GRAFANA_MEMORY"}
    assert read - optional == example.keys()


def test_every_service_is_confined_and_bounded() -> None:
    for name, service in config(*FILES).items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert service["init"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert int(service["deploy"]["resources"]["limits"]["memory"]) > 0, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service["ports"]), name
        assert not service.get("user", "").startswith(("0", "root")), name


def test_images_are_pinned_by_version_and_ours_are_built() -> None:
    for name, service in config(*FILES).items():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", service["image"]), name


def test_qdrant_is_the_version_of_the_tests_and_asks_for_its_key() -> None:
    fetched = re.search(r'^PACKAGE = ".*@([\d.]+)"$', (REPO / "scripts/fetch_qdrant.py").read_text(), re.MULTILINE)
    assert fetched
    services = config("compose.yaml")
    assert services["qdrant"]["image"] == f"qdrant/qdrant:v{fetched[1]}-unprivileged"
    key = services["qdrant"]["environment"]["QDRANT__SERVICE__API_KEY"]
    assert key
    assert services["worker"]["environment"]["GRISTMILL_QDRANT_API_KEY"] == key


def test_redis_keeps_every_write_evicts_nothing_and_asks_for_its_password() -> None:
    redis = config("compose.yaml")["redis"]
    options = dict(line.split(maxsplit=1) for line in redis["command"][-1].splitlines() if line[:1].islower())
    assert (
        options
        | {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory": "$$REDIS_MAXMEMORY",
            "maxmemory-policy": "noeviction",
            "requirepass": "$$REDIS_PASSWORD",
        }
        == options
    )
    assert redis["environment"]["REDIS_PASSWORD"] not in redis["command"]


def test_redis_has_the_memory_that_the_marks_of_the_ledger_need_and_its_container_more() -> None:
    redis = config("compose.yaml")["redis"]
    maxmemory = {"1gb": 2**30}[redis["environment"]["REDIS_MAXMEMORY"]]
    # docs/howto/sizing.md, "Redis", with five million documents on the roster.
    assert maxmemory >= 1.25 * (SETTINGS.queue_max_bytes + SETTINGS.dead_max_bytes) + 70 * 5_000_000
    assert int(redis["deploy"]["resources"]["limits"]["memory"]) >= 1.5 * maxmemory


@pytest.mark.parametrize("name", ["redis", "qdrant"])
def test_servers_keep_their_data_in_a_volume(name: str) -> None:
    mounted = config("compose.yaml")[name]["volumes"]
    assert mounted
    assert {each["type"] for each in mounted} == {"volume"}


def test_the_worker_waits_for_healthy_servers_and_has_time_to_drain() -> None:
    services = config("compose.yaml")
    worker = services["worker"]
    assert {name: need["condition"] for name, need in worker["depends_on"].items()} == {
        "redis": "service_healthy",
        "qdrant": "service_healthy",
    }
    assert all("healthcheck" in services[name] for name in worker["depends_on"])
    assert worker["stop_grace_period"] == "1m0s"
    assert SETTINGS.drain_timeout_s + 10 < 60


def test_ours_are_given_settings_that_exist() -> None:
    known = {variable(name) for name in ServerSettings.model_fields}
    for name, service in config(*FILES).items():
        ours = {each for each in service.get("environment", {}) if each.startswith("GRISTMILL_")}
        assert ours <= known, name
        assert bool(ours) == ("build" in service), name


def test_the_server_is_started_only_when_it_is_asked_for_and_alone() -> None:
    serve = config("compose.yaml")["serve"]
    assert serve["profiles"] == ["serve"]
    assert "depends_on" not in serve


def test_every_replica_of_a_gpu_worker_sees_all_gpus_and_takes_one() -> None:
    services = config(*FILES[:2])
    worker = services["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", -1, ["gpu"])
    assert worker["entrypoint"] == ["one-gpu", "gristmill"]
    assert (worker["build"]["args"]["DEVICE"], worker["environment"]["GRISTMILL_DEVICE"]) == ("cuda", "cuda")
    assert int(worker["deploy"]["resources"]["limits"]["memory"]) > 0
    (port,) = worker["ports"]
    assert port["published"] == "9464-9479"


def test_prometheus_finds_every_replica_of_the_worker_under_the_job_that_the_alerts_ask_for() -> None:
    run_tool("promtool", "check", "config", "--syntax-only", str(COMPOSE / "prometheus" / "prometheus.yml"))
    text = (COMPOSE / "prometheus" / "prometheus.yml").read_text("utf-8")
    assert "job_name: gristmill\n" in text
    services = config(*FILES)
    assert f"names: [worker], type: A, port: {services['worker']['environment']['GRISTMILL_METRICS_PORT']}" in text


def test_what_is_mounted_from_this_folder_is_there() -> None:
    for service in config(*FILES).values():
        for mount in service.get("volumes", ()):
            assert mount["type"] == "volume" or Path(mount["source"]).exists()
            assert mount["type"] == "volume" or mount["read_only"]
