"""The image, as far as it can be judged without a builder: hadolint, its last stage, and the script that takes a GPU."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from manifests import COMPOSE, REPO, run_tool

ONE_GPU = COMPOSE / "one-gpu"


class Instruction(NamedTuple):
    """One line of a Dockerfile, continuation lines joined."""

    name: str
    value: str


def instructions() -> list[Instruction]:
    text = re.sub(r"^\s*#.*\n", "", (COMPOSE / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    return [Instruction(*line.split(maxsplit=1)) for line in text.replace("\\\n", " ").splitlines() if line]


def last_stage() -> list[Instruction]:
    every = instructions()
    return every[max(at for at, each in enumerate(every) if each.name == "FROM") :]


def test_hadolint_has_nothing_to_say() -> None:
    assert run_tool("hadolint", str(COMPOSE / "Dockerfile")) == ""


def test_the_last_stage_builds_nothing_and_runs_as_a_plain_user() -> None:
    last = last_stage()
    runs = [each.value for each in last if each.name == "RUN"]
    assert not [each for each in runs if re.search(r"pip|curl|wget", each)]
    # What Triton compiles with, on a card alone.
    (packages,) = (each for each in runs if "apt" in each)
    assert packages.startswith('if [ "$DEVICE" = cuda ]')
    assert re.findall(r"--no-install-recommends (.*?) &&", packages) == ["gcc libc6-dev"]
    settings = dict(last)
    # By number: Kubernetes refuses to take a name for "not root".
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", settings["USER"])
    assert settings["HEALTHCHECK"].endswith('CMD ["gristmill", "health", "--live"]')
    assert (settings["STOPSIGNAL"], settings["VOLUME"]) == ("SIGTERM", "/models")
    environment = dict(word.split("=", 1) for word in settings["ENV"].split())
    assert {environment[name] for name in ("HF_HOME", "XDG_CACHE_HOME")} == {"/models"}


def test_the_base_is_pinned_by_version_and_nothing_by_a_digest_that_nobody_checked() -> None:
    (python,) = [each.value for each in instructions() if each.name == "ARG" and each.value.startswith("PYTHON=")]
    assert re.fullmatch(r"PYTHON=python:3\.\d+\.\d+-slim-\w+", python)
    for file in sorted(COMPOSE.rglob("*")):
        assert not file.is_file() or "sha256:" not in file.read_text("utf-8"), file


def test_what_the_image_copies_is_there_and_reaches_the_builder() -> None:
    sent = {line[1:] for line in (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = [each.value.split() for each in instructions() if each.name == "COPY"]
    words = {word for line in copied if not line[0].startswith("--from") for word in line[:-1]}
    wanted = {word for word in words if not word.startswith("--")}
    assert wanted == sent
    assert [path for path in sorted(wanted) if not (REPO / path).exists()] == []


class Replicas:
    """Workers of one machine with two GPUs, as far as `one-gpu` sees."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tool = folder / "nvidia-smi"
        tool.write_text("#!/bin/sh\necho GPU-aaaa\necho GPU-bbbb\n")
        tool.chmod(0o755)

    def start(self) -> subprocess.Popen[str]:
        """One more, which runs until its standard input ends."""
        show = "echo $CUDA_VISIBLE_DEVICES; read -r line"
        return subprocess.Popen(
            ["sh", str(ONE_GPU), "sh", "-c", show],
            env={"PATH": f"{self._folder}:/usr/bin:/bin", "GPU_LOCKS": str(self._folder / "locks")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def test_each_replica_takes_a_gpu_of_its_own_one_too_many_says_so_and_one_that_ends_leaves_its_own(
    tmp_path: Path,
) -> None:
    replicas = Replicas(tmp_path)
    with replicas.start() as first:
        assert taken(first) == "GPU-aaaa"
        with replicas.start() as second:
            assert taken(second) == "GPU-bbbb"
            third = replicas.start()
            _, told = third.communicate(timeout=60)
            assert third.returncode == 1
            assert "every GPU of this machine has its worker already: 2 of them" in told
            first.kill()
            first.wait(60)
            with replicas.start() as fourth:
                assert taken(fourth) == "GPU-aaaa"


def test_a_replica_that_is_shown_no_gpu_ends_with_what_the_driver_says(tmp_path: Path) -> None:
    replicas = Replicas(tmp_path)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'No devices were found' >&2\nexit 6\n")
    alone = replicas.start()
    _, told = alone.communicate(timeout=60)
    assert alone.returncode == 6
    assert "No devices were found" in told


def taken(replica: subprocess.Popen[str]) -> str:
    assert replica.stdout is not None
    return replica.stdout.readline().strip()
