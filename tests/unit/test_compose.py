"""The compose files say what Gristmill relies on: no eviction, an append-only file, pinned servers, no root."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from gristmill.settings import ClientSettings

REPO = Path(__file__).parents[2]
COMPOSE = REPO / "compose"
FILES = ["compose.yaml", "compose.gpu.yaml"]


class Instruction(NamedTuple):
    """One line of a Dockerfile, continuation lines joined."""

    name: str
    value: str


def test_redis_keeps_every_write_and_evicts_nothing() -> None:
    command = service("redis")["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {"--appendonly": "yes", "--appendfsync": "always", "--maxmemory-policy": "noeviction"}


def test_qdrant_is_pinned_to_the_version_of_the_tests() -> None:
    fetched = re.search(r'^PACKAGE = ".*@([\d.]+)"$', (REPO / "scripts/fetch_qdrant.py").read_text(), re.MULTILINE)
    assert fetched
    assert service("qdrant")["image"] == f"qdrant/qdrant:v{fetched[1]}"


@pytest.mark.parametrize("name", ["redis", "qdrant"])
def test_servers_keep_their_data_in_a_volume_and_listen_on_this_machine_only(name: str) -> None:
    assert service(name)["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in service(name)["ports"])


def test_the_worker_waits_for_healthy_servers_and_comes_back_after_a_crash() -> None:
    worker = service("worker")
    assert {name: need["condition"] for name, need in worker["depends_on"].items()} == {
        "redis": "service_healthy",
        "qdrant": "service_healthy",
    }
    assert worker["restart"] == "unless-stopped"
    assert all("healthcheck" in service(name) for name in worker["depends_on"])


def test_the_worker_is_given_settings_that_exist() -> None:
    given = {name.removeprefix("GRISTMILL_").lower() for name in service("worker")["environment"]}
    assert given <= ClientSettings.model_fields.keys()


def test_the_gpu_file_changes_the_worker_alone_and_reserves_one_gpu() -> None:
    services = load("compose.gpu.yaml")["services"]
    assert services.keys() == {"worker"}
    (device,) = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert services["worker"]["build"]["args"]["DEVICE"] == "cuda"


def test_the_image_runs_as_a_plain_user_and_checks_its_health() -> None:
    last = dict(instructions())
    assert last["USER"] == "gristmill"
    assert "gristmill" in last["HEALTHCHECK"]
    assert last["STOPSIGNAL"] == "SIGTERM"


def test_what_the_image_copies_is_there_and_reaches_the_builder() -> None:
    sent = {line[1:] for line in (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    sources = {word for name, value in instructions() if name == "COPY" for word in value.split()[:-1]}
    wanted = {source for source in sources if not source.startswith(("--", "/"))}
    assert wanted == sent
    assert [path for path in sorted(wanted) if not (REPO / path).exists()] == []


def test_docker_itself_accepts_the_files() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not on this machine")
    files = [word for name in FILES for word in ("-f", str(COMPOSE / name))]
    config = [docker, "compose", *files, "config", "--quiet"]
    answer = subprocess.run(config, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (answer.returncode, answer.stderr) == (0, "")


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text())
    return content


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load("compose.yaml")["services"][name]
    return found


def instructions() -> list[Instruction]:
    text = re.sub(r"^\s*#.*\n", "", (COMPOSE / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line]
