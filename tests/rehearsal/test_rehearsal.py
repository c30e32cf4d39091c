"""`docker compose up` without Docker: what the Dockerfile installs, by its own lines, run by what the compose files say.

Minutes long, since it installs an environment: `make ship-check` runs it, `make test` does not.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import dashboard
import waiting
from manifests import COMPOSE, REPO, run_tool
from sandbox import Container, lonely_network, obstacle
from services.processes import children_of

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]
eventually = partial(waiting.eventually, within_s=90)
GIVEN = {name: secrets.token_hex(16) for name in ("REDIS_PASSWORD", "QDRANT_API_KEY", "GRAFANA_PASSWORD")}
WORKER = 10001


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    obstructed = obstacle()
    if obstructed:
        if os.environ.get("CI") == "true":
            pytest.fail(obstructed)
        pytest.skip(obstructed)
    files = [word for name in ("compose.yaml", "compose.monitoring.yaml") for word in ("-f", str(COMPOSE / name))]
    text = run_tool("docker-compose", "--env-file", os.devnull, *files, "config", "--format", "json", environment=GIVEN)
    # It leaves the dollars doubled that are the container's.
    read: dict[str, Any] = json.loads(text.replace("$$", "$"))["services"]
    return read


@pytest.fixture(scope="module")
def installed(services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the image, by the lines of its first stage; torch from the index that this machine has."""
    place = tmp_path_factory.mktemp("image")
    target, sources = place / "opt", place / "src"
    sources.mkdir()
    text = re.sub(r"^\s*#.*\n", "", (COMPOSE / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    first_stage = text.replace("\\\n", " ").split("\nFROM ")[1]
    environment = {
        "DEVICE": "cuda",
        "TORCH_INDEX": "",
        "EXTRAS": "serve",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
    }
    environment |= {"PIP_ROOT_USER_ACTION": "ignore", "PIP_QUIET": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line in first_stage.splitlines():
        name, _, value = line.partition(" ")
        if name == "COPY":
            for source in value.split()[:-1]:
                copy = shutil.copytree if (REPO / source).is_dir() else shutil.copy
                copy(REPO / source, sources / source)
        elif name == "RUN":
            command = value.replace("/opt/gristmill", str(target))
            ran = subprocess.run(
                ["sh", "-ec", command],
                cwd=sources,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
                umask=0o022,
            )
            assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
    shutil.rmtree(sources)
    return target


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    hosts = "127.0.0.1 localhost redis qdrant worker prometheus\n"
    (folder / "hosts").write_text(hosts)
    return folder


@pytest.fixture(scope="module")
def image(installed: Path, services: dict[str, Any], place: Path) -> Container:
    """A worker's container: the image's variables, those of compose.yaml, and a stand-in for its model."""
    text = (COMPOSE / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    (told,) = re.findall(r"^ENV (PATH=.*)$", text, re.MULTILINE)
    environment = dict(word.split("=", 1) for word in told.split())
    environment["PATH"] = f"{installed}/bin:/usr/bin:/bin"
    environment["GRISTMILL_DEVICE"] = "cpu"
    environment |= services["worker"]["environment"] | {"GRISTMILL_MODEL": "hash:64", "HOME": "/home/gristmill"}
    base = Path(
        subprocess.check_output(
            [installed / "bin/python", "-c", "import sys; print(sys.base_prefix)"], text=True
        ).strip()
    )
    shown = {str(installed): installed, "/etc/hosts": place / "hosts"}
    if not str(base).startswith("/usr"):
        shown[str(base)] = base
    return Container(
        WORKER,
        environment,
        shown,
        {"/tmp": place / "tmp", "/models": place / "models"},
        "/home/gristmill",
    )


def test_the_image_has_what_it_says_and_nothing_that_installs(installed: Path, image: Container) -> None:
    assert image.run("gristmill", "--version").stdout.strip()
    assert not [name for name in ("pip", "uv", "gcc") if (installed / "bin" / name).exists()]
    refused = image.run("sh", "-c", "touch /home/gristmill/x || touch /usr/x || touch /x")
    assert refused.returncode != 0
    assert refused.stderr.count("Read-only file system") == 3
    imported = image.run(
        "python", "-c", "import torch, transformers, fastapi, gristmill_worker; print(torch.__version__)"
    )
    assert imported.returncode == 0, imported.stderr


def test_redis_qdrant_and_a_worker_do_as_the_compose_files_say(
    services: dict[str, Any], image: Container, place: Path
) -> None:
    with lonely_network(), running(redis_of(services, place), services["redis"]) as redis:
        check = services["redis"]["healthcheck"]["test"][1]
        eventually(lambda: redis.container.run("sh", "-c", check).returncode == 0)
        stranger = Container(999, redis.container.environment | {"REDISCLI_AUTH": "wrong"}, redis.container.shown)
        assert stranger.run("sh", "-c", check).returncode != 0
        assert "noeviction" in redis.container.run("redis-cli", "config", "get", "maxmemory-policy").stdout
        with running(qdrant_of(services, place), services["qdrant"]) as qdrant:
            probe = services["qdrant"]["healthcheck"]["test"][1:]
            eventually(lambda: qdrant.container.run(*probe).returncode == 0)
            assert httpx.get("http://127.0.0.1:6333/collections").status_code == 401
            assert image.run("gristmill", "health", "--live").returncode == 1
            with running(image, {"command": ["gristmill", *(services["worker"]["command"] or ["worker"])]}) as worker:
                works(image)
                watched(place)
                assert worker.stop() == 0
            assert image.run("gristmill", "health", "--live").returncode == 1


def test_what_scales_ends_at_once_when_it_is_told_to_as_the_first_process_of_its_container(
    services: dict[str, Any], image: Container, place: Path
) -> None:
    with lonely_network(), running(redis_of(services, place), services["redis"]):
        address = "http://127.0.0.1:8080"
        with running(image, {"command": ["gristmill", "scale", "--port", "8080"]}, first=True) as scale:
            eventually(lambda: answers(f"{address}/healthz"))
            eventually(lambda: answers(f"{address}/scale"))
            assert scale.stop(within_s=20) == 0


def works(image: Container) -> None:
    """Ready by its heartbeat; a document is stored and found."""
    eventually(lambda: image.run("gristmill", "health", "--ready").returncode == 0)
    assert image.run("gristmill", "health", "--live").returncode == 0
    created = image.run("gristmill", "collections", "create", "faq", "--model", "hash:64")
    assert created.returncode == 0, created.stdout + created.stderr
    asked = """
from gristmill import Client, Document
with Client() as client:
    report = client.enqueue("faq", [Document(id=str(n), text=f"question {n} about refunds") for n in range(20)]).wait()
    print(report.stored, client.search("faq", "question 7 about refunds")[0].id)
"""
    said = image.run("python", "-c", asked)
    assert said.stdout == "20 7\n", said.stdout + said.stderr


def watched(place: Path) -> None:
    """Prometheus, with the rules and the queries that are shipped, beside the worker."""
    config = yaml.safe_load((COMPOSE / "prometheus/prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(COMPOSE / "prometheus/alerts.yml")]
    (job,) = config["scrape_configs"]
    (names,) = job.pop("dns_sd_configs")
    job["static_configs"] = [{"targets": [f"127.0.0.1:{names['port']}"]}]
    (place / "prometheus.yml").write_text(yaml.safe_dump(config))
    program = shutil.which("prometheus")
    assert program
    options = [f"--config.file={place / 'prometheus.yml'}", f"--storage.tsdb.path={place / 'tsdb'}"]
    process = subprocess.Popen(
        [program, *options, "--web.listen-address=127.0.0.1:9090"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: answers("http://127.0.0.1:9090/-/ready"))
        eventually(lambda: query('sum(rate(gristmill_documents_total{outcome="stored"}[1m])) >= 0'))
        every = [(panel, asked) for panel in dashboard.PANELS for asked, _ in panel.queries]
        eventually(lambda: not [panel.title for panel, asked in every if panel.core and not query(filled(asked))])
        assert all(isinstance(query(filled(asked)), list) for _, asked in every)
        rules = told("/api/v1/rules")["groups"][0]["rules"]
        assert {rule["health"] for rule in rules} == {"ok"}
        assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    finally:
        process.terminate()
        process.wait(60)


def filled(asked: str) -> str:
    """A panel's query, as Grafana sends it with everything chosen."""
    return asked.replace("$__rate_interval", "1m").replace("$model", ".*").replace("$instance", ".*")


def query(asked: str) -> list[Any]:
    result: list[Any] = told("/api/v1/query", query=asked)["result"]
    return result


def told(path: str, **parameters: str) -> Any:
    answer = httpx.get(f"http://127.0.0.1:9090{path}", params=parameters, timeout=60).json()
    assert answer["status"] == "success", f"{parameters}: {answer}"
    return answer["data"]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


class Running:
    """A container at work."""

    def __init__(self, container: Container, process: subprocess.Popen[bytes]) -> None:
        self.container = container
        self._process = process

    def stop(self, within_s: float = 60) -> int:
        """SIGTERM to the program itself, as a container engine sends it; its exit status."""
        (inside,) = children_of(self._process.pid) or [self._process.pid]
        os.kill(inside, signal.SIGTERM)
        return self._process.wait(within_s)


@contextmanager
def running(container: Container, service: Mapping[str, Any], *, first: bool = False) -> Iterator[Running]:
    process = subprocess.Popen(container.command(*service["command"], first=first))
    try:
        yield Running(container, process)
    finally:
        process.kill()
        process.wait(60)


def redis_of(services: dict[str, Any], place: Path) -> Container:
    environment = services["redis"]["environment"] | {"PATH": "/usr/bin:/bin"}
    return Container(
        999, environment, {"/etc/hosts": place / "hosts"}, {"/data": place / "redis", "/tmp": place / "redis-tmp"}
    )


def qdrant_of(services: dict[str, Any], place: Path) -> Container:
    """Qdrant's own program in the place of its image, which keeps it in /qdrant."""
    from services.qdrant import find_qdrant

    # What the image's own configuration says, and the bare program does not.
    environment = services["qdrant"]["environment"] | {"PATH": "/usr/bin:/bin", "QDRANT__SERVICE__GRPC_PORT": "6334"}
    services["qdrant"]["command"] = ["/qdrant/qdrant"]
    written = {
        "/qdrant/storage": place / "qdrant",
        "/qdrant/snapshots": place / "snapshots",
        "/tmp": place / "qdrant-tmp",
    }
    return Container(1000, environment, {"/qdrant/qdrant": Path(find_qdrant())}, written, "/qdrant")
