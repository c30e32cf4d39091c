"""The drill of `docs/howto/backup.md`, on real servers: one of them lost, or both restored from copies of different ages.

The page's own commands make the copies and put them back.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gristmill import AuditReport, Client, Document, Gap
from gristmill.settings import variable
from gristmill_schemas.errors import CollectionNotFound, InvalidInput
from services import QdrantServer, RedisServer, WorkerProcess
from services.folders import server_folder
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.release]
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "backup.md"
#: What the application's own files hold in the end: `a0` was deleted, `a1` changed, `p0` deleted before it was ever encoded.
FILES = {"a1": "one, changed", "a2": "two", "a3": "three", "p1": "waited one", "p2": "waited two", "n0": "new"}


def script(name: str) -> str:
    """A block of the page, by its first line."""
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = (each for each in blocks if each.startswith(f"# {name}:"))
    return found


@dataclass(frozen=True)
class Site:
    """Two servers, their copies, and a worker that runs when it is started."""

    folder: Path
    redis: RedisServer
    qdrant: QdrantServer
    worker: WorkerProcess

    @property
    def settings(self) -> dict[str, str]:
        return {
            "redis_url": self.redis.url,
            "qdrant_url": self.qdrant.url,
            "qdrant_grpc_port": str(self.qdrant.grpc_port),
        }

    def client(self) -> Client:
        return Client(redis_url=self.redis.url, qdrant_url=self.qdrant.url, qdrant_grpc_port=self.qdrant.grpc_port)

    def run(self, name: str, copy: str) -> None:
        """Run one of the page's scripts on these servers."""
        given = {variable(key): value for key, value in self.settings.items()}
        own = {"BACKUP": str(self.folder / copy), "COLLECTIONS": "c"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script(name)],
            env={**os.environ, **given, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def restore_redis(self, copy: str) -> None:
        """As the page says: started once without the append-only file, which is made from what was loaded."""
        self.lose_redis()
        shutil.copy(self.folder / copy / "redis.rdb", self.redis.data_dir / "dump.rdb")
        self.redis._options["appendonly"] = "no"
        self.redis.start()
        self.run("put back Redis", copy)
        self.redis._options["appendonly"] = "yes"
        self.redis.restart()

    def lose_redis(self) -> None:
        self.redis.kill()
        shutil.rmtree(self.redis.data_dir / "appendonlydir")
        (self.redis.data_dir / "dump.rdb").unlink(missing_ok=True)

    def lose_qdrant(self) -> None:
        self.qdrant.kill()
        self.qdrant.wipe()
        self.qdrant.start()

    def restore_qdrant(self, copy: str) -> None:
        self.lose_qdrant()
        self.run("put back Qdrant", copy)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Copies `older` and `newer` of both servers, with what happened in between."""
    with server_folder() as name:
        folder = Path(name)
        redis, qdrant = RedisServer(folder / "redis", appendfsync="always"), QdrantServer(folder / "qdrant")
        with redis, qdrant:
            given = {variable("redis_url"): redis.url, variable("qdrant_url"): qdrant.url}
            given[variable("qdrant_grpc_port")] = str(qdrant.grpc_port)
            worker = WorkerProcess(folder / "worker", given)
            made = Site(folder, redis, qdrant, worker)
            try:
                _live(made)
                yield made
            finally:
                worker.stop()


def _live(site: Site) -> None:
    with site.worker, site.client() as client:
        client.create_collection("c", "hash:16")
        texts = {"a0": "zero", "a1": "one", "a2": "two", "a3": "three"}
        assert client.enqueue("c", documents(texts)).wait(60).stored == 4
    with site.client() as client:
        client.enqueue("c", documents({"p0": "waited zero", "p1": "waited one", "p2": "waited two"}))
    site.run("copy both", "older")
    with site.worker, site.client() as client:
        eventually(lambda: client.count("c") == 7)
        assert client.enqueue("c", documents({"a1": "one, changed", "n0": "new"})).wait(60).stored == 2
        assert client.delete("c", ["a0", "p0"]).wait(60).deleted == 2
    site.run("copy both", "newer")


def documents(texts: dict[str, str]) -> list[Document]:
    return [Document(id=key, text=text) for key, text in texts.items()]


def found(report: AuditReport) -> dict[str | None, Gap]:
    return {each.id: each.gap for each in report.findings}


def texts_in(client: Client) -> dict[str, str]:
    return {each.id: each.text for each in client.documents("c")}


def test_redis_lost_an_audit_lists_what_qdrant_holds_and_the_files_bring_the_rest(site: Site) -> None:
    site.restore_qdrant("older")
    site.lose_redis()
    site.redis.start()
    with site.client() as client:
        assert (client.jobs.list(), client.dead.summary().letters) == ([], 0)
        report = client.audit("c")
        assert (report.expected, report.documents, report.gaps, report.unlisted, report.listed) == (0, 4, 0, 4, 0)
        report = client.audit("c", repair=True)
        assert (report.unlisted, report.listed, report.job_id) == (4, 4, None)
        with closing(site.qdrant.client()) as store:
            store.delete("c", points_selector=list(client.receipt("c", "a3").point_ids), wait=True)
        report = client.audit("c")
        assert (report.expected, found(report), report.unlisted) == (4, {"a3": Gap.MISSING}, 0)
        with site.worker:
            report = client.audit("c", documents(FILES), repair=True)
            assert found(report) == {
                "a1": Gap.STALE,
                **dict.fromkeys(("a3", "p1", "p2", "n0"), Gap.MISSING),
            }
            assert client.jobs.get(str(report.job_id)).wait(60).stored == 5
        assert texts_in(client) == {**FILES, "a0": "zero"}, "nothing remembers that a0 was deleted"


def test_qdrant_lost_its_work_waits_for_the_collection_and_the_files_bring_the_rest(site: Site) -> None:
    site.restore_redis("older")
    site.lose_qdrant()
    with site.client() as client, site.worker:
        with pytest.raises(CollectionNotFound, match="'c' does not exist"):
            client.audit("c")
        eventually(lambda: "if Qdrant was wiped, restore it or create the collection again" in site.worker.log_tail())
        (waiting,) = (each for each in client.jobs.list() if each.pending)
        client.create_collection("c", "hash:16")
        assert client.jobs.get(waiting.job_id).wait(60).stored == 3
        report = client.audit("c")
        assert (report.expected, report.documents, report.gaps) == (3, 3, 0), "the roster ends with its collection"
        assert client.audit("c", documents(FILES), repair=True).missing == 4
        eventually(lambda: client.audit("c", documents(FILES)).left == 0)
        assert texts_in(client) == {**FILES, "p0": "waited zero"}


def test_an_older_qdrant_beside_a_newer_redis_is_told_to_the_document(site: Site) -> None:
    """The order of the page: Qdrant is copied first, so that Redis knows all that has happened to it."""
    site.restore_redis("newer")
    site.restore_qdrant("older")
    expected = {"a0": Gap.REVIVED, "a1": Gap.STALE, **dict.fromkeys(("p1", "p2", "n0"), Gap.MISSING)}
    with site.client() as client:
        report = client.audit("c")
        assert (found(report), report.unlisted) == (expected, 0)
        report = client.audit("c", repair=True)
        assert (report.repaired, report.left, report.job_id) == (1, 4, None), "a0 goes again; texts are nowhere"
        assert "a0" not in texts_in(client)
        with site.worker:
            report = client.audit("c", documents(FILES), repair=True)
            assert (report.repaired, report.left) == (4, 0)
            assert client.jobs.get(str(report.job_id)).wait(60).stored == 4
        assert client.audit("c", documents(FILES)).gaps == 0
        assert texts_in(client) == FILES


def test_an_older_redis_beside_a_newer_qdrant_revives_nothing_once_its_work_is_cancelled(site: Site) -> None:
    site.restore_redis("older")
    site.restore_qdrant("newer")
    with site.client() as client:
        (waiting,) = (each for each in client.jobs.list() if each.pending)
        assert client.jobs.get(waiting.job_id).cancel().cancelled == 3
        with site.worker:
            report = client.audit("c", documents(FILES), repair=True)
            assert found(report) == {"a0": Gap.MISSING}, "its deletion is forgotten; that it was accepted is not"
            assert (report.left, report.job_id) == (1, None)
            assert (report.unlisted, report.listed) == (4, 4), "a1 is newer; p1, p2 and n0 were not known"
            assert client.delete("c", ["a0"]).wait(60).absent == 1
        assert client.audit("c", documents(FILES)).gaps == 0
        assert texts_in(client) == FILES


def test_a_job_that_redis_has_lost_is_told_as_such(site: Site) -> None:
    with site.client() as client, pytest.raises(InvalidInput, match="Redis has lost it"):
        client.jobs.get("0123456789abcdef").report()
    assert json.loads((site.folder / "newer" / "aliases.json").read_text())["status"] == "ok"
