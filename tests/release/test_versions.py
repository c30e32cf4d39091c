"""Two versions beside one another, each installed from its wheel in an environment of its own, as real processes.

The other version is this tree with something added, or with a format raised: what a later release will do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from gristmill import __version__
from gristmill.settings import variable
from services import QdrantServer, RedisServer, WorkerProcess
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.release, pytest.mark.timeout(600)]
REPO = Path(__file__).parents[2]
SCHEMAS = Path("schemas", "gristmill_schemas")
#: Fields that this version does not know, in what clients send and in what workers store, within the same formats.
ADDED = {
    SCHEMAS / "parcel.py": (
        "    job_id: Identifier\n    #: The name",
        "    job_id: Identifier\n    of_tomorrow: str = 'x'\n    #: The name",
    ),
    SCHEMAS / "query.py": ("    normalize: bool = True\n", "    normalize: bool = True\n    of_tomorrow: str = 'x'\n"),
    SCHEMAS / "point.py": ("    attempts: int = 1\n", "    attempts: int = 1\n    of_tomorrow: int = 2\n"),
    SCHEMAS / "collection.py": (
        "    keyword: bool = False\n",
        "    keyword: bool = False\n    of_tomorrow: str = 'x'\n",
    ),
}
#: Parcels and queries of a format that this version does not read.
RAISED = {
    SCHEMAS / "parcel.py": ('"parcel"\n', '"parcel"\n    FORMAT: ClassVar[int] = 2\n    format: int = 2\n'),
    SCHEMAS / "query.py": ('"query"\n', '"query"\n    FORMAT: ClassVar[int] = 2\n    format: int = 2\n'),
}
#: This version, but for the minute that a parcel of a later format is left alone, which no test should wait.
SOON = {Path("plugin", "gristmill", "ledger", "base.py"): ("NEWER_FORMAT_S = 60.0", "NEWER_FORMAT_S = 1.0")}


class Version:
    """A wheel of the tree with some changes, installed in an environment that has everything else from this one."""

    def __init__(self, folder: Path, version: str, changes: Mapping[Path, tuple[str, str]]) -> None:
        tree = folder / "tree"
        for name in ("schemas", "plugin", "worker"):
            shutil.copytree(REPO / name, tree / name)
        for name in ("README.md", "LICENSE", "pyproject.toml"):
            shutil.copy(REPO / name, tree / name)
        self.number = version
        numbered = {
            Path("pyproject.toml"): (_version_line(), f'version = "{version}"'),
            Path("plugin", "gristmill", "__init__.py"): (
                f'__version__ = "{__version__}"',
                f'__version__ = "{version}"',
            ),
        }
        for path, (before, after) in {**changes, **numbered}.items():
            text = (tree / path).read_text(encoding="utf-8")
            assert text.count(before) == 1, f"{path}: {before!r}"
            (tree / path).write_text(text.replace(before, after), encoding="utf-8")
        (wheel,) = WheelBuilder(str(tree)).build(directory=str(folder), versions=["standard"])
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        install = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-compile",
        ]
        subprocess.run([*install, wheel], check=True)
        # Behind the wheel's own folder, and not as a site folder: an editable install there is not followed.
        site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
        (site / "everything_else.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def run(self, *arguments: str, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run its `gristmill`."""
        return subprocess.run(
            [str(self.python), "-m", "gristmill", *arguments],
            env=_clean() | dict(settings),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


class Worker(WorkerProcess):
    """A worker of a version."""

    def __init__(self, data_dir: Path, settings: dict[str, str], version: Version) -> None:
        super().__init__(data_dir, settings)
        self._python = str(version.python)

    def command(self) -> list[str]:
        return [self._python, *super().command()[1:]]

    def environment(self) -> dict[str, str]:
        return _clean() | self._settings


def _clean() -> dict[str, str]:
    """Nothing of this tree, nor of its settings."""
    hidden = ("GRISTMILL_", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


def _version_line() -> str:
    (line,) = re.findall(r"^version = .*$", (REPO / "pyproject.toml").read_text(), re.MULTILINE)
    return str(line)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Version]:
    changes = {"old": SOON, "added": ADDED, "raised": RAISED}
    numbers = {"old": "0.2.0", "added": "0.2.9", "raised": "0.3.0"}
    return {name: Version(tmp_path_factory.mktemp(name), numbers[name], changes[name]) for name in changes}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("servers")
    with RedisServer(folder / "redis") as redis, QdrantServer(folder / "qdrant") as qdrant:
        yield {
            variable("redis_url"): redis.url,
            variable("qdrant_url"): qdrant.url,
            variable("qdrant_grpc_port"): str(qdrant.grpc_port),
        }


@pytest.fixture
def docs(tmp_path: Path) -> str:
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), "text": f"text number {n}"}) + "\n" for n in range(20)))
    return str(path)


@pytest.mark.parametrize(("client", "worker"), [("old", "added"), ("added", "old")])
def test_a_days_work_of_a_client_and_a_worker_of_different_versions(
    client: str, worker: str, versions: dict[str, Version], servers: dict[str, str], docs: str, tmp_path: Path
) -> None:
    settings = servers | {variable("key_prefix"): f"{client}-{worker}"}
    name, app = f"{client}-{worker}", versions[client]
    with Worker(tmp_path, settings, versions[worker]):
        for arguments in (("collections", "create", name, "--model", "hash:16"), ("ingest", docs, "-c", name)):
            done = app.run(*arguments, settings=settings)
            assert done.returncode == 0, done.stderr
        for each in (app, versions[worker]):
            found = each.run("search", name, "text number 7", "--json", settings=settings)
            assert json.loads(found.stdout)["hits"][0]["id"] == "7", found.stderr
            audited = each.run("audit", name, docs, "--json", settings=settings)
            assert json.loads(audited.stdout)["gaps"] == 0, audited.stderr
        assert app.run("ingest", docs, "-c", name, settings=settings).returncode == 0, "unchanged: all are skipped"
        beside = f"1 worker of {versions[worker].number}, {versions[client].number} here; finish the upgrade"
        assert beside in app.run("doctor", "--json", settings=settings).stdout


def test_in_an_upgrade_with_the_producers_first_work_waits_for_a_worker_that_reads_it(
    versions: dict[str, Version], servers: dict[str, str], docs: str, tmp_path: Path
) -> None:
    settings = servers | {variable("key_prefix"): "upgrade"}
    old, new = versions["old"], versions["raised"]
    with Worker(tmp_path / "old", settings, old) as worker:
        assert old.run("collections", "create", "u", "--model", "hash:16", settings=settings).returncode == 0
        sent = new.run("ingest", docs, "-c", "u", "--no-wait", "--json", settings=settings)
        job = json.loads(sent.stdout)["job_id"]
        said = "parcel: format 2 is newer than 1, the newest that gristmill 0.2.0 reads: upgrade this side"
        eventually(lambda: said in worker.log_tail(50), 60)
        asked = new.run("search", "u", "text", "--json", settings=settings)
        assert asked.returncode != 0
        assert "query: format 2 is newer than 1" in asked.stdout + asked.stderr
        shown = old.run("doctor", "--json", settings=settings).stdout
        assert "upgrade workers first" in shown
        with Worker(tmp_path / "new", settings, new):
            eventually(lambda: _job(new, job, settings)["stored"] == 20, 90)
            report = _job(new, job, settings)
            assert (report["dead"], report["pending"]) == (0, 0)
            assert old.run("ingest", docs, "-c", "u", "--json", settings=settings).returncode == 0, "old beside new"
        assert json.loads(old.run("audit", "u", docs, "--json", settings=settings).stdout)["gaps"] == 0
        assert "torn out" not in worker.log_path.read_text()


def _job(version: Version, job: str, settings: Mapping[str, str]) -> dict[str, int]:
    report: dict[str, int] = json.loads(version.run("jobs", "show", job, "--json", settings=settings).stdout)
    return report
