"""The manifests of `compose/`, and the tools that judge them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

REPO = Path(__file__).parents[1]
COMPOSE = REPO / "compose"


#: What `make setup` and `make services` bring, so that CI has it. No registry that they use has kubectl.
_BROUGHT = ("docker-compose", "hadolint", "promtool")


def run_tool(name: str, *arguments: str, environment: dict[str, str] | None = None, may_fail: bool = False) -> str:
    """What a tool says, its errors included. A test that needs one that is not here is skipped; in CI it fails."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None and (name not in _BROUGHT or os.environ.get("CI") != "true"):
        pytest.skip(f"{name} is not on this machine: make services, make setup")
    assert found is not None, f"{name} is missing"
    done = subprocess.run(
        [found, *arguments], capture_output=True, text=True, check=False, env=os.environ | (environment or {})
    )
    assert may_fail or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(folder: Path) -> list[dict[str, Any]]:
    """Every object of a kustomization."""
    return [each for each in yaml.safe_load_all(run_tool("kubectl", "kustomize", str(folder))) if each]


class Pod(NamedTuple):
    """A pod's template, and where it stands."""

    name: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.spec["containers"]
        return dict(container)

    @property
    def environment(self) -> dict[str, Any]:
        """By name: the value, or where it comes from."""
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in self.container.get("env", ())}


def pods_of(objects: list[dict[str, Any]]) -> list[Pod]:
    """The pods of Deployments and StatefulSets."""
    return [
        Pod(each["metadata"]["name"], each["spec"]["template"]["metadata"]["labels"], each["spec"]["template"]["spec"])
        for each in objects
        if each["kind"] in ("Deployment", "StatefulSet")
    ]
