"""The plugin as an application installs it: the base distribution, no worker's packages, on every Python that is found.

For each minor version from the project's oldest on: a fresh environment with the built wheel and the test tools, then the
fast tests of whatever imports nothing of the worker. Versions that are not on this machine are listed, not failed.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".cache" / "plugin-alone"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
MINORS = (11, 12, 13, 14)
TOOLS = ("pytest", "pytest-timeout", "hypothesis", "jsonschema", "syrupy")
#: What the base install lacks, and the test helpers that import it.
ABSENT = {"gristmill_worker", "torch", "transformers", "tokenizers", "pyarrow", "yaml", "hatchling"}
HELPERS = {"models", "interleaving", "manifests", "wrong_inputs"}
FAST = "not server and not model and not chaos"


def main() -> int:
    """Test on every Python there is; 1 if any fails or none is found."""
    found = {minor: python for minor in MINORS if (python := interpreter(minor))}
    missing = ", ".join(f"3.{minor}" for minor in MINORS if minor not in found)
    tests = [str(path.relative_to(ROOT)) for path in plugin_tests()]
    wheel = build_wheel()
    with ThreadPoolExecutor(2) as side_by_side:
        results = side_by_side.map(lambda minor: passes(minor, found[minor], wheel, tests), found)
        passed = dict(zip(found, results, strict=True))
    failed = [f"3.{minor}" for minor in found if not passed[minor]]
    print(f"plugin alone: passed on {', '.join(f'3.{m}' for m in found if f'3.{m}' not in failed) or 'none'}")
    if missing:
        print(f"plugin alone: not on this machine: {missing}")
    if failed:
        print(f"plugin alone: FAILED on {', '.join(failed)}")
    return bool(failed or not found)


def interpreter(minor: int) -> str | None:
    """A Python 3.`minor` that runs: on PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python3.{minor}"), *sorted(map(str, pyenv.glob(f"3.{minor}.*/bin/python")))]
    question = f"import sys, venv; sys.exit(sys.version_info[:2] != (3, {minor}))"
    return next((each for each in candidates if each and quietly([each, "-c", question])), None)


def plugin_tests() -> Iterator[Path]:
    """Test modules outside the integration and chaos suites that import nothing which the base install lacks."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path.relative_to(ROOT / "tests").parts[0] in {"unit", "contract"} and not imports(path) & (ABSENT | HELPERS):
            yield path


def imports(path: Path) -> set[str]:
    """Top-level names of every absolute import of a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def build_wheel() -> str:
    """The distribution as it would be published, built once for all Pythons."""
    shutil.rmtree(PLACE, ignore_errors=True)
    command = [*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(PLACE), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = PLACE.glob("*.whl")
    return str(wheel)


def passes(minor: int, python: str, wheel: str, tests: Sequence[str]) -> bool:
    """Whether the tests pass in an environment of their own."""
    venv = PLACE / f"3.{minor}"
    inside = str(venv / "bin" / "python")
    # One pip for all: putting one into each environment takes longer than the tests, and so does compiling all packages.
    install = [*PIP, "--python", inside, "install", "--quiet", "--no-compile", "-c", "constraints.txt"]
    steps = [
        [python, "-m", "venv", "--clear", "--without-pip", str(venv)],
        [*install, *TOOLS, wheel],
        [inside, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"],
        # The worker's entry points are in the wheel, what they need is not: the command line still has to come up.
        [inside, "-m", "gristmill", "--help"],
        [inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", FAST, *tests],
    ]
    return all(run(f"3.{minor}", step) for step in steps)


def run(version: str, command: Sequence[str]) -> bool:
    """Run a step where nothing of the developer's own environment is importable; its output shows only if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        print(f"{version}: {' '.join(command[:8])} … ended with {done.returncode}\n{done.stdout[-8000:]}", flush=True)
    elif command[2] == "pytest":
        print(f"{version}: {done.stdout.strip().splitlines()[-1]}", flush=True)
    return done.returncode == 0


def quietly(command: Sequence[str]) -> bool:
    """Whether a command ends with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
