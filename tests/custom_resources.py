"""Objects of KEDA and of the Prometheus operator, held against their makers' definitions as an API server would do it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

FOLDER = Path(__file__).parent / "unit" / "manifests" / "crds"


def faults_of(thing: dict[str, Any]) -> list[str]:
    """What is wrong with an object, fields that nobody knows included.

    Raises:
        KeyError: Its kind is none of those that are kept here.
    """
    validator = jsonschema.Draft202012Validator(_schemas()[thing["apiVersion"], thing["kind"]])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(thing)]


@cache
def _schemas() -> dict[tuple[str, str], dict[str, Any]]:
    return {key: schema for path in sorted(FOLDER.glob("*.yaml")) for key, schema in _versions(path)}


def _versions(path: Path) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    spec = yaml.safe_load(path.read_text("utf-8"))["spec"]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        # What every object has, and the definition leaves to Kubernetes.
        schema["properties"]["metadata"]["x-kubernetes-preserve-unknown-fields"] = True
        yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), _closed(schema)


def _closed(schema: Any) -> Any:
    """Unknown fields refused, where a definition lists the known ones, and OpenAPI's words put into those of JSON Schema."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if closed.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    return closed
